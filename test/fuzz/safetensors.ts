/** Safetensors files, packed ones too: the header as JSON, its length, what follows. */

import { changedBytes, changedValues, integerBytes, overwritten } from './bytes.js'
import { boundary, changedText } from './hostile.js'
import { changedJson, changedJsonText } from './json.js'
import type { Random } from './random.js'

export function changedSafetensors(bytes: Buffer, random: Random): Buffer {
  const end = bytes.length < 8 ? Infinity : 8 + Number(bytes.readBigUInt64LE())
  if (end > bytes.length || random.once(12))
    return changedBytes(bytes, random, [
      [0, 64],
      [8, Math.min(end, bytes.length)],
    ])
  const header = headers.get(bytes) ?? bytes.subarray(8, end)
  headers.set(bytes, header)
  const data = bytes.subarray(end)
  switch (random.below(14)) {
    case 0:
      return overwritten(bytes, integerBytes(boundary(random), 8), 0)
    case 1:
      return Buffer.concat([bytes.subarray(0, end), changedBytes(data, random)])
    case 2:
    case 3:
      return Buffer.concat([bytes.subarray(0, end), changedValues(data, random)])
    case 12:
    case 13:
      return consistent(header, data, random) ?? changedBytes(bytes, random)
    case 4:
    case 5:
    case 6:
      return withPackedMetadata(header, data, random) ?? changedJsonHeader(header, data, random)
    default:
      return changedJsonHeader(header, data, random)
  }
}

/** One Buffer for the header of one file, so that its tree is kept. */
const headers = new WeakMap<Buffer, Buffer>()

function changedJsonHeader(header: Buffer, data: Buffer, random: Random): Buffer {
  return withHeader(changedJson(header, random), data, random)
}

/** Padded as the format's writer does, or to 64 bytes as moepp does; now and then not at all. */
function withHeader(header: Buffer, data: Buffer, random: Random): Buffer {
  const unit = random.once(4) ? 1 : random.once(4) ? 8 : 64
  const padded = Buffer.alloc(Math.ceil((8 + header.length) / unit) * unit - 8, ' ')
  header.copy(padded)
  return Buffer.concat([integerBytes(BigInt(padded.length), 8), padded, data])
}

interface Entry {
  dtype: string
  shape: number[]
  data_offsets: [number, number]
}

/** A header that stays true to the file: tensors renamed, reshaped, split, reordered. */
function consistent(header: Buffer, data: Buffer, random: Random): Buffer | undefined {
  const entries = parsedHeader(header)
  if (!entries) return undefined
  const names = Object.keys(entries).filter(name => name !== '__metadata__')
  if (names.length === 0) return undefined
  const name = random.pick(names)
  const entry = entries[name]
  if (!Array.isArray(entry?.shape) || !Array.isArray(entry.data_offsets)) return undefined
  const [begin, end] = entry.data_offsets
  switch (random.below(5)) {
    case 0:
      delete entries[name]
      Object.defineProperty(entries, changedText(name, random), { value: entry, enumerable: true })
      break
    case 1:
      entry.shape = random.once(2) ? [1, ...entry.shape] : [entry.shape.reduce((a, b) => a * b, 1)]
      break
    case 2: {
      const middle = begin + random.below(end - begin + 1)
      entries[name] = { dtype: 'U8', shape: [middle - begin], data_offsets: [begin, middle] }
      entries[`${name}.b`] = { dtype: 'I8', shape: [end - middle], data_offsets: [middle, end] }
      break
    }
    case 3:
      entry.dtype = random.pick(['BOOL', 'I8', 'U8', 'F8_E4M3', 'I16', 'BF16', 'F16', 'F64', 'F4'])
      break
    default:
      entries[`${name}.empty`] = {
        dtype: 'F32',
        shape: [0, random.below(4)],
        data_offsets: [end, end],
      }
  }
  return withHeader(Buffer.from(JSON.stringify(entries)), data, random)
}

/** A change within the JSON text that the metadata of a packed file holds. */
function withPackedMetadata(header: Buffer, data: Buffer, random: Random): Buffer | undefined {
  const entries = parsedHeader(header)
  const metadata = entries?.__metadata__ as Record<string, unknown> | null | undefined
  const text = metadata?.moepp_packed
  if (typeof text !== 'string') return undefined
  metadata!.moepp_packed = changedJsonText(text, random)
  return withHeader(Buffer.from(JSON.stringify(entries)), data, random)
}

function parsedHeader(header: Buffer): Record<string, Entry> | undefined {
  try {
    const value: unknown = JSON.parse(header.toString())
    const isObject = typeof value === 'object' && value !== null && !Array.isArray(value)
    return isObject ? (value as Record<string, Entry>) : undefined
  } catch {
    return undefined
  }
}
