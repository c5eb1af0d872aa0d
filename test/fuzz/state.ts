/** State files: changed in their header, token ids or values, under a checksum that is right. */
import { createHash } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fakeModel } from '../generation/fake-model.js'
import { changedBytes, changedValues, integerBytes, overwritten } from './bytes.js'
import type { Format } from './formats.js'
import { boundary } from './hostile.js'
import { changedJson } from './json.js'
import { Finding } from './oracle.js'
import type { Random } from './random.js'
import type { Folder } from './seeds.js'

const FILE = 'state.kv'
const CHECKSUM_BYTES = 32
/** Before the header: the format's name and the header's length. */
const PREFIX_BYTES = 12

/** A model that never runs a step: its fingerprint is that of the files. */
const { model, runner } = fakeModel()

export async function stateSeeds(): Promise<Folder[]> {
  const folder = await mkdtemp(join(tmpdir(), 'moepp-fuzz-state-'))
  const seeds: Folder[] = []
  for (const tokens of [1, 4, 11]) {
    const { model: writer } = fakeModel()
    const path = join(folder, `${tokens}.kv`)
    await writer.saveState(
      path,
      Array.from({ length: tokens }, (_, i) => 40 + i),
    )
    seeds.push(new Map([[FILE, await readFile(path)]]))
    await writer.close()
  }
  await rm(folder, { recursive: true })
  return seeds
}

export function stateFormat(seeds: readonly Folder[]): Format {
  return {
    name: 'state',
    weight: 6,
    seeds,
    focus: /./,
    codes: ['ERR_BAD_STATE', 'ERR_NOT_FOUND', 'ERR_OUT_OF_MEMORY'],
    read: async ({ directory }) => {
      const before = model.stats()
      try {
        const { tokenIds } = await model.loadState(join(directory, FILE))
        if (tokenIds.some(id => !Number.isInteger(id) || id < 0 || id >= runner.vocabSize))
          throw new Finding('a token id outside of the vocabulary')
      } catch (error) {
        if (model.stats().kvPagesCached > before.kvPagesCached)
          throw new Finding('a page of a refused file is kept')
        throw error
      }
      if (model.stats().kvPagesUsed > 0) throw new Finding('a page is held')
    },
  }
}

/** Mostly with a right checksum, and a header whose length is right. */
export function changedState(bytes: Buffer, random: Random): Buffer {
  if (random.once(4) || bytes.length < PREFIX_BYTES + CHECKSUM_BYTES)
    return changedBytes(bytes, random)
  const length = bytes.readUInt32LE(PREFIX_BYTES - 4)
  const body = bytes.subarray(PREFIX_BYTES, -CHECKSUM_BYTES)
  const [header, rest] = [body.subarray(0, length), body.subarray(length)]
  const parts = [bytes.subarray(0, PREFIX_BYTES), header, rest]
  switch (random.below(4)) {
    case 0: {
      const changed = changedJson(header, random)
      parts[0] = overwritten(parts[0]!, integerBytes(BigInt(changed.length), 4), PREFIX_BYTES - 4)
      parts[1] = changed
      break
    }
    case 1:
      parts[2] = overwritten(rest, integerBytes(boundary(random), 4), 4 * random.below(16))
      break
    case 2:
      parts[2] = changedValues(rest, random)
      break
    default:
      parts[2] = changedBytes(rest, random)
  }
  const signed = Buffer.concat(parts)
  return Buffer.concat([signed, createHash('sha256').update(signed).digest()])
}
