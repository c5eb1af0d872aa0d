/**
 * All that the bits of keys and values depend on beside the tokens. Two models of equal
 * fingerprints compute the same state from the same text.
 */
import { createHash, type Hash } from 'node:crypto'
import { InputFile } from '../base/input-file.js'
import { allWeights, type RecordedWeight } from '../program/model-spec.js'
import type { RunnerParts } from './runner.js'

export type Fingerprint = Readonly<Record<string, string>>

/** Bytes of weights that are read; each part gives two blocks at least. */
const SAMPLED_BYTES = 16 << 20
const BLOCK_BYTES = 4096
/** Reads under way at once. */
const READS = 16

type Part = RecordedWeight['parts'][number]

/** @throws MoeppError ERR_NOT_FOUND, ERR_BAD_FILE if the checkpoint's files have changed */
export async function fingerprintOf({
  model: { config },
  spec,
  matrixType,
  activationDtype,
  description,
}: Pick<
  RunnerParts,
  'model' | 'spec' | 'matrixType' | 'activationDtype' | 'description'
>): Promise<Fingerprint> {
  return {
    family: config.family,
    dtype: matrixType,
    activationDtype,
    // Results differ in bits between instruction sets: docs/architecture.md.
    arithmetic: `${description.name.split(':')[0]} ${description.isa}`,
    config: hashOf(JSON.stringify(config)),
    weights: await weightsDigest(allWeights(spec)),
  }
}

/** Types, shapes and samples of all weights, as they are stored and as they are held. */
async function weightsDigest(weights: readonly RecordedWeight[]): Promise<string> {
  const parts = weights.flatMap(weight => weight.parts).flatMap(withScale)
  const total = parts.reduce((sum, { byteLength }) => sum + byteLength, 0)
  const sampled = await sampleFiles(parts, Math.min(1, SAMPLED_BYTES / total))
  const hash = createHash('sha256')
  for (const { name, dtype, shape, parts } of weights) {
    hash.update(JSON.stringify({ name, dtype, shape }))
    for (const part of parts.flatMap(withScale)) {
      const { file: _, byteOffset: __, ...stored } = part
      hash.update(JSON.stringify(stored))
      hash.update(sampled.get(placeOf(part))!)
    }
  }
  return hash.digest('hex')
}

/** float8 and its scales, each by itself. */
function withScale(part: Part): Part[] {
  if (!('scale' in part) || !part.scale) return [part]
  const { scale, ...codes } = part
  return [codes, scale]
}

/** A digest of each part's bytes, by its place. Each file is opened once. */
async function sampleFiles(
  parts: readonly Part[],
  share: number,
): Promise<ReadonlyMap<string, string>> {
  const sampled = new Map<string, string>()
  for (const path of new Set(parts.map(({ file }) => file))) {
    await InputFile.with(path, async file => {
      for (const part of parts)
        if (part.file === path) sampled.set(placeOf(part), await samplePart(file, part, share))
    })
  }
  return sampled
}

const placeOf = ({ file, byteOffset, byteLength }: Part) => `${byteOffset} ${byteLength} ${file}`

/** All of a small part; else blocks at even distances, the first and the last among them. */
async function samplePart(file: InputFile, part: Part, share: number): Promise<string> {
  const { name, byteOffset, byteLength } = part
  const blocks = Math.max(2, Math.ceil((share * byteLength) / BLOCK_BYTES))
  const isWhole = blocks * BLOCK_BYTES >= byteLength
  const last = isWhole ? (blocks - 1) * BLOCK_BYTES : byteLength - BLOCK_BYTES
  const hash = createHash('sha256')
  for (let first = 0; first < blocks; first += READS) {
    const count = Math.min(READS, blocks - first)
    const reads = Array.from({ length: count }, (_, i) => {
      const at = Math.floor(((first + i) * last) / (blocks - 1))
      const length = Math.max(0, Math.min(BLOCK_BYTES, byteLength - at))
      return length === 0 ? Buffer.alloc(0) : file.read(byteOffset + at, length, name)
    })
    update(hash, await Promise.all(reads))
  }
  return hash.digest('hex')
}

function update(hash: Hash, pieces: readonly Buffer[]): void {
  for (const piece of pieces) hash.update(piece)
}

function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}
