/** Golden data of the PyTorch reference model, and the comparison with it. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { readTar } from './tar.js'

/** Compiled, this file is build/tests/test/support/golden.js. */
export const root = join(import.meta.dirname, '..', '..', '..', '..')
export const golden = join(root, 'test', 'golden')

/** Those with latent attention. */
export const LATENT_FAMILIES = [
  'glm4_moe_lite',
  'glm4_moe_lite_plus_plus',
  'longcat_flash',
  'longcat_flash_ngram',
] as const
export type LatentFamily = (typeof LATENT_FAMILIES)[number]
const OTHERS = ['moepp', 'qwen3_moe', 'qwen3_moe_plus_plus', 'mixtral'] as const
export const FAMILIES = [...OTHERS, ...LATENT_FAMILIES] as const
export type Family = (typeof FAMILIES)[number]

export function isLatentFamily(family: Family): family is LatentFamily {
  return LATENT_FAMILIES.some(name => name === family)
}

const packed = new Map<Family, ReadonlyMap<string, Buffer>>()

function filesOf(family: Family): ReadonlyMap<string, Buffer> {
  const files = packed.get(family) ?? readTar(join(golden, 'families', `${family}.tar`))
  packed.set(family, files)
  return files
}

/** The model cases of a family. */
export function caseNames(family: Family = 'moepp'): string[] {
  return [...new Set([...filesOf(family).keys()].map(file => file.split('/')[0]!))].sort()
}

const folders = new Map<string, string>()
let unpacked: string | undefined

/** The folder that holds a case's files as they came, until this process ends. */
export function goldenCase(name: string, family: Family = 'moepp'): string {
  const key = join(family, name)
  const known = folders.get(key)
  if (known) return known
  if (!unpacked) {
    const all = mkdtempSync(join(tmpdir(), 'moepp-golden-'))
    process.on('exit', () => rmSync(all, { recursive: true, force: true }))
    unpacked = all
  }
  const folder = join(unpacked, key)
  mkdirSync(folder, { recursive: true })
  const files = [...filesOf(family)].filter(([file]) => file.startsWith(`${name}/`))
  if (files.length === 0) throw new Error(`${family} has no case ${name}`)
  for (const [file, bytes] of files) writeFileSync(join(folder, file.slice(name.length + 1)), bytes)
  folders.set(key, folder)
  return folder
}

export function readJson<T>(path: string): T {
  return JSON.parse(readFileSync(path, 'utf8')) as T
}

/** A tensor's values, as numbers of any stored type. */
export interface Values {
  readonly shape: readonly number[]
  readonly data: Float32Array | Int32Array
}

/** The tensors of a safetensors file, read without the code under test. */
export interface GoldenTensors {
  readonly names: readonly string[]
  has(name: string): boolean
  values(name: string): Values
}

export function readGolden(path: string): GoldenTensors {
  const file = readFileSync(path)
  const length = Number(file.readBigUInt64LE(0))
  const { __metadata__: _, ...entries } = JSON.parse(
    file.toString('utf8', 8, 8 + length),
  ) as Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }>
  return {
    names: Object.keys(entries),
    has: name => name in entries,
    values: name => {
      const entry = entries[name]
      if (!entry) throw new Error(`${path} has no tensor ${name}`)
      const { dtype, shape, data_offsets: offsets } = entry
      const [from, to] = offsets.map(offset => 8 + length + offset) as [number, number]
      return {
        shape,
        data: READERS[dtype]!(file.buffer.slice(file.byteOffset + from, file.byteOffset + to)),
      }
    },
  }
}

const READERS: Readonly<Record<string, (bytes: ArrayBufferLike) => Float32Array | Int32Array>> = {
  F32: bytes => new Float32Array(bytes),
  I32: bytes => new Int32Array(bytes),
  BF16: bytes =>
    new Float32Array(Uint32Array.from(new Uint16Array(bytes), half => half << 16).buffer),
}

export interface Tolerance {
  readonly atol: number
  readonly rtol: number
}

/**
 * The worst value by |got - want| - (atol + rtol |want|), in words when it is above 0, else ''. NaN
 * equals NaN alone.
 */
export function difference(
  got: ArrayLike<number>,
  want: ArrayLike<number>,
  { atol, rtol }: Tolerance,
): string {
  if (got.length !== want.length) return `${got.length} values, expected ${want.length}`
  let worst = 0
  let at = -1
  for (let i = 0; i < got.length; i++) {
    // NaN and NaN, infinity and the same infinity.
    if (Object.is(got[i], want[i])) continue
    const excess = Math.abs(got[i]! - want[i]!) - (atol + rtol * Math.abs(want[i]!))
    if (!(excess <= worst)) {
      worst = excess
      at = i
    }
  }
  return at < 0 ? '' : `[${at}] is ${got[at]}, expected ${want[at]}`
}

/**
 * The k pairs of (index, weight) of each token in ascending order of the index: the order of close
 * picks is not promised.
 */
export function sortedPicks(indices: ArrayLike<number>, weights: ArrayLike<number>, k: number) {
  const experts: number[] = []
  const shares: number[] = []
  for (let first = 0; first < indices.length; first += k) {
    const order = Array.from({ length: k }, (_, i) => first + i)
    order.sort((a, b) => indices[a]! - indices[b]!)
    experts.push(...order.map(i => indices[i]!))
    shares.push(...order.map(i => weights[i]!))
  }
  return { experts, weights: shares }
}

/**
 * Grouped heads of keys, constant experts, a sliding window, latents, layers of two attentions,
 * n-grams.
 */
export const ONE_OF_EACH_FAMILY: readonly (readonly [Family, string])[] = [
  ['moepp', 'gqa'],
  ['qwen3_moe', 'gqa-headdim'],
  ['qwen3_moe_plus_plus', 'constant'],
  ['mixtral', 'sliding-headdim'],
  ['glm4_moe_lite_plus_plus', 'constant-dense-last'],
  ['longcat_flash', 'strong-bias'],
  ['longcat_flash_ngram', 'ngram-eos'],
]
