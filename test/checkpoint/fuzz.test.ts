/**
 * Real files, damaged in reproducible ways: every outcome is a checkpoint or a MoeppError, soon,
 * and without an allocation that the file's size does not justify.
 */

import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { convertCheckpoint } from '../../lib/checkpoint/convert.js'
import { packedBytes } from '../../lib/checkpoint/packed.js'
import { readSafetensors } from '../../lib/checkpoint/safetensors.js'
import type { TensorFile } from '../../lib/checkpoint/tensor-file.js'
import { isPacked } from '../../lib/checkpoint/tensor-ref.js'
import { readTorchBin } from '../../lib/checkpoint/torch-bin.js'
import { MoeppError } from '../../lib/errors.js'
import { CASES } from './files.js'

const ROUNDS = 2000

const root = t.testdir({})

await convertCheckpoint(join(CASES, 'tied-safetensors'), join(root, 'packed'), { dtype: 'int4' })

const FORMATS: [name: string, original: string, read: (path: string) => Promise<TensorFile>][] = [
  ['safetensors', join(CASES, 'tied-safetensors', 'model.safetensors'), readSafetensors],
  ['packed safetensors', join(root, 'packed', 'model.safetensors'), readSafetensors],
  ['torch zip', join(CASES, 'tied-bin', 'pytorch_model.bin'), readTorchBin],
  ['torch legacy', join(CASES, 'n12-legacy', 'pytorch_model.bin'), readTorchBin],
]

for (const [name, source, read] of FORMATS) {
  t.test(`${ROUNDS} mutations of a ${name} file`, async t => {
    const original = readFileSync(source)
    const path = join(root, `${name}.mutated`)
    const random = generator(20240611)
    const interesting = structure(original, name)
    const outcomes = { opened: 0, refused: 0 }
    const allocations = watchAllocations(t)
    for (let round = 0; round < ROUNDS; round++) {
      const bytes = mutate(original, interesting, random)
      writeFileSync(path, bytes)
      allocations.largest = 0
      const started = performance.now()
      const failure = await read(path).then(
        file => checkRefs(file, bytes.length),
        error => (error instanceof MoeppError ? undefined : error),
      )
      outcomes[failure === null ? 'opened' : 'refused']++
      if (failure) t.fail(`round ${round}: ${failure instanceof Error ? failure.stack : failure}`)
      if (allocations.largest > 2 * original.length)
        t.fail(`round ${round}: ${allocations.largest} bytes at once`)
      if (performance.now() - started > 2000)
        t.fail(`round ${round}: ${performance.now() - started} ms`)
    }
    t.ok(outcomes.refused > ROUNDS / 10, `most damage is noticed: ${JSON.stringify(outcomes)}`)
  })
}

/** null if every reference lies within the file, and packed weights are aligned and whole. */
function checkRefs(file: TensorFile, size: number): string | null {
  for (const [name, ref] of [...file.tensors, ...file.packed]) {
    const end = ref.byteOffset + ref.byteLength
    if (!Number.isSafeInteger(end) || ref.byteOffset < 0 || ref.byteLength < 0 || end > size) {
      return `${name} lies at ${ref.byteOffset}, ${ref.byteLength} bytes, outside of a file of ${size}`
    }
    if (isPacked(ref) && (ref.byteOffset % 64 !== 0 || ref.byteLength !== packedBytes(ref))) {
      return `${name}: packed ${ref.shape} ${ref.dtype} lies at ${ref.byteOffset}, ${ref.byteLength} bytes`
    }
  }
  return null
}

/** Byte ranges that are not tensor data, where damage matters. */
function structure(bytes: Buffer, format: string): [start: number, end: number][] {
  const tail: [number, number] = [bytes.length - 4096, bytes.length]
  if (format.endsWith('safetensors'))
    return [
      [0, 8],
      [8, 8 + Number(bytes.readBigUInt64LE())],
    ]
  return format === 'torch zip' ? [[0, 8000], tail, tail] : [[0, 14000]]
}

function mutate(
  original: Buffer,
  ranges: [number, number][],
  random: (below: number) => number,
): Buffer {
  const place = () => {
    if (random(8) === 0) return random(original.length)
    const [start, end] = ranges[random(ranges.length)]!
    return start + random(end - start)
  }
  const kind = random(10)
  if (kind === 0) return original.subarray(0, random(2) ? place() : random(original.length))
  if (kind === 1) {
    // A piece of the file put in at another place, with or without moving what follows.
    const from = place()
    const piece = original.subarray(from, from + 1 + random(64))
    const to = place()
    return Buffer.concat([
      original.subarray(0, to),
      piece,
      original.subarray(random(2) ? to : to + piece.length),
    ])
  }
  if (kind === 2) {
    const at = place()
    return Buffer.concat([original.subarray(0, at), original.subarray(at + 1 + random(32))])
  }
  const bytes = Buffer.from(original)
  for (let flips = 1 + random(4); flips > 0; flips--) {
    const at = place()
    const how = random(4)
    if (how === 0) bytes[at] = bytes[at]! ^ (1 << random(8))
    else if (how === 1) bytes[at] = random(256)
    else if (how === 2) bytes.subarray(at, at + 1 + random(8)).fill(random(2) ? 0xff : 0)
    else bytes[at] = bytes[place()]!
  }
  return bytes
}

function watchAllocations(t: { teardown(undo: () => void): void }) {
  const watched = { largest: 0 }
  const alloc = Buffer.alloc
  Buffer.alloc = (size: number, ...rest: []) => {
    watched.largest = Math.max(watched.largest, size)
    return alloc(size, ...rest)
  }
  t.teardown(() => {
    Buffer.alloc = alloc
  })
  return watched
}

/** Integers from 0 up to `below`, the same in every run (mulberry32). */
function generator(seed: number): (below: number) => number {
  let state = seed
  return below => {
    state = (state + 0x6d2b79f5) | 0
    let z = Math.imul(state ^ (state >>> 15), state | 1)
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61)
    return ((z ^ (z >>> 14)) >>> 0) % below
  }
}
