/** Findings as files: the target, the seeds, the fault, and the input itself. */

import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { deflateRawSync, inflateRawSync } from 'node:zlib'
import { root } from '../support/golden.js'
import type { Folder } from './seeds.js'

export const CORPUS = join(root, 'test', 'fuzz', 'corpus')

export type Target = 'parsers' | 'loads'

export interface CorpusEntry {
  readonly target: Target
  readonly format: string
  /** The seeds of the input, with the fuzzer as it was. */
  readonly seed: string
  readonly found: string
  readonly files: Folder
}

export function writeEntry(directory: string, name: string, entry: CorpusEntry): string {
  mkdirSync(directory, { recursive: true })
  const path = join(directory, `${name}.json`)
  const files = Object.fromEntries(
    [...entry.files].map(([file, bytes]) => [file, deflateRawSync(bytes).toString('base64')]),
  )
  writeFileSync(path, `${JSON.stringify({ ...entry, files }, null, 1)}\n`)
  return path
}

export function readEntry(path: string): CorpusEntry {
  const entry = JSON.parse(readFileSync(path, 'utf8'))
  const files = Object.entries<string>(entry.files).map(([file, text]): [string, Buffer] => [
    file,
    inflateRawSync(Buffer.from(text, 'base64')),
  ])
  return { ...entry, files: new Map(files) }
}

export function corpusFiles(): string[] {
  return readdirSync(CORPUS)
    .filter(name => name.endsWith('.json'))
    .sort()
    .map(name => join(CORPUS, name))
}
