/** Files of torch.save: zips whose records and pickles are changed, and pickles in a row. */

import { zipBytes } from '../checkpoint/files.js'
import { changedBytes, changedValues, integerBytes, overwritten, type Range } from './bytes.js'
import { boundary, changedText } from './hostile.js'
import { changedPickle } from './pickle.js'
import type { Random } from './random.js'

/** By signature: length of the fixed part, and offset and width of each field. */
const RECORDS: ReadonlyMap<string, { length: number; fields: [at: number, width: number][] }> =
  new Map([
    [
      'PK\x03\x04',
      {
        length: 30,
        fields: [
          [6, 2],
          [8, 2],
          [18, 4],
          [22, 4],
          [26, 2],
          [28, 2],
        ],
      },
    ],
    [
      'PK\x01\x02',
      {
        length: 46,
        fields: [
          [8, 2],
          [10, 2],
          [20, 4],
          [24, 4],
          [28, 2],
          [30, 2],
          [32, 2],
          [42, 4],
          [48, 2],
        ],
      },
    ],
    [
      'PK\x05\x06',
      {
        length: 22,
        fields: [
          [4, 2],
          [6, 2],
          [8, 2],
          [10, 2],
          [12, 4],
          [16, 4],
          [20, 2],
        ],
      },
    ],
    [
      'PK\x06\x06',
      {
        length: 56,
        fields: [
          [4, 8],
          [16, 4],
          [20, 4],
          [24, 8],
          [32, 8],
          [40, 8],
          [48, 8],
        ],
      },
    ],
    [
      'PK\x06\x07',
      {
        length: 20,
        fields: [
          [4, 4],
          [8, 8],
          [16, 4],
        ],
      },
    ],
  ])

export function changedTorch(bytes: Buffer, random: Random): Buffer {
  if (bytes.subarray(0, 4).toString('latin1') !== 'PK\x03\x04')
    return changedPickle(bytes, random, 5)
  const records = recordsOf(bytes)
  const kind = random.below(10)
  if (kind < 5) return rebuilt(bytes, random) ?? changedBytes(bytes, random)
  if (kind < 9 && records.length > 0) {
    const { at, fields } = random.pick(records)
    const [offset, width] = random.pick(fields)
    const value = random.once(2) ? boundary(random) : BigInt(random.below(bytes.length + 1))
    return overwritten(bytes, integerBytes(value, width), at + offset)
  }
  return changedBytes(
    bytes,
    random,
    records.map(({ at, length }): Range => [at, at + length]),
  )
}

function recordsOf(bytes: Buffer) {
  const records = []
  for (let at = bytes.indexOf('PK'); at >= 0; at = bytes.indexOf('PK', at + 2)) {
    const record = RECORDS.get(bytes.toString('latin1', at, at + 4))
    if (record && at + record.length <= bytes.length) records.push({ at, ...record })
  }
  return records
}

/** The zip made anew, with its pickle or its list of entries changed. */
function rebuilt(bytes: Buffer, random: Random): Buffer | undefined {
  const entries = localEntries(bytes)
  const pickle = entries.findIndex(([name]) => name.endsWith('data.pkl'))
  if (pickle < 0) return undefined
  const a = random.below(entries.length)
  const [name, data] = entries[a]!
  switch (random.below(10)) {
    case 0:
      entries.splice(a, 1)
      break
    case 1:
      entries.push([random.once(2) ? name : changedText(name, random), data])
      break
    case 2:
      entries[a] = [changedText(name, random), data]
      break
    case 3:
      entries[a] = [name, changedBytes(data, random)]
      break
    case 4:
    case 5:
      if (a !== pickle) entries[a] = [name, changedValues(data, random)]
      break
    default:
      entries[pickle] = [entries[pickle]![0], changedPickle(entries[pickle]![1], random)]
  }
  return zipBytes(entries, { zip64: random.once(3), method: random.once(20) ? 8 : 0 })
}

function localEntries(bytes: Buffer): [name: string, data: Buffer][] {
  const entries: [string, Buffer][] = []
  for (let at = 0; at + 30 <= bytes.length && bytes.readUInt32LE(at) === 0x04034b50; ) {
    const start = at + 30 + bytes.readUInt16LE(at + 26)
    const data = start + bytes.readUInt16LE(at + 28)
    const end = data + bytes.readUInt32LE(at + 18)
    if (end > bytes.length) break
    entries.push([bytes.toString('utf8', at + 30, start), bytes.subarray(data, end)])
    at = end
  }
  return entries
}
