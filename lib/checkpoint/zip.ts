/**
 * The places of a zip file's entries, read from its central directory. It supports only torch's
 * kind: entries are stored, not compressed, so that a tensor's bytes can be mapped in place. 64-bit
 * sizes and offsets are read.
 *
 * Source: the .ZIP File Format Specification (APPNOTE.TXT) 6.3, sections 4.3 and 4.5.3.
 */

import type { InputFile } from '../base/input-file.js'
import { show } from '../base/json.js'

export interface ZipEntry {
  readonly name: string
  readonly size: number
  readonly headerOffset: number
  /** The start of the next entry's header, or of the directory: this entry ends before it. */
  readonly limit: number
}

const LOCAL_HEADER = 0x04034b50
const DIRECTORY_ENTRY = 0x02014b50
const END = 0x06054b50
const END64_LOCATOR = 0x07064b50
const END64 = 0x06064b50
const LOCAL_HEADER_BYTES = 30
const DIRECTORY_ENTRY_BYTES = 46
const END_BYTES = 22
const END64_LOCATOR_BYTES = 20
const END64_BYTES = 56
const MAX_COMMENT_BYTES = 0xffff
const MAX_DIRECTORY_BYTES = 64_000_000
const ENCRYPTED = 0x0041 // flag bits 0 and 6
/** A 32-bit field that says: see the 64-bit one. */
const SEE_ZIP64 = 0xffffffff

/** The entries by name, none overlapping another. */
export async function readZipDirectory(file: InputFile): Promise<ReadonlyMap<string, ZipEntry>> {
  const { count, size, offset, endOffset } = await findDirectory(file)
  if (offset + size > endOffset)
    throw file.bad('the zip directory does not lie before its end record')
  if (size > MAX_DIRECTORY_BYTES) {
    throw file.bad(
      `the zip directory takes ${size} bytes, at most ${MAX_DIRECTORY_BYTES} are accepted`,
    )
  }
  const directory = await file.read(offset, size, 'the zip directory')
  const parsed: Omit<ZipEntry, 'limit'>[] = []
  let at = 0
  while (at < directory.length) {
    const { entry, next } = parseEntry(file, directory, at)
    parsed.push(entry)
    at = next
  }
  if (parsed.length !== count) {
    throw file.bad(`the zip directory holds ${parsed.length} entries, its end record says ${count}`)
  }
  return withLimits(file, parsed, offset)
}

/** The position of an entry's first byte, after a check of the header that stands before it. */
export async function zipDataOffset(file: InputFile, entry: ZipEntry): Promise<number> {
  const bad = (message: string) => file.bad(`zip entry ${show(entry.name)}: ${message}`)
  const header = await file.read(
    entry.headerOffset,
    LOCAL_HEADER_BYTES,
    `the header of zip entry ${show(entry.name)}`,
  )
  if (header.readUInt32LE(0) !== LOCAL_HEADER)
    throw bad(`no local header at byte ${entry.headerOffset}`)
  if (header.readUInt16LE(6) & ENCRYPTED || header.readUInt16LE(8) !== 0) {
    throw bad('its local header says that it is compressed or encrypted')
  }
  const nameLength = header.readUInt16LE(26)
  const nameOffset = entry.headerOffset + LOCAL_HEADER_BYTES
  const name = await file.read(nameOffset, nameLength, `the name of zip entry ${show(entry.name)}`)
  if (name.toString('utf8') !== entry.name) {
    throw bad(`its local header names ${show(name.toString('utf8'))}`)
  }
  const dataOffset = nameOffset + nameLength + header.readUInt16LE(28)
  if (dataOffset + entry.size > entry.limit) throw bad('it reaches into the next one')
  return dataOffset
}

interface Directory {
  readonly count: number
  readonly size: number
  readonly offset: number
  /** The start of the first of the end records. */
  readonly endOffset: number
}

async function findDirectory(file: InputFile): Promise<Directory> {
  const tailBytes = Math.min(file.size, END_BYTES + MAX_COMMENT_BYTES + END64_LOCATOR_BYTES)
  const tailOffset = file.size - tailBytes
  const tail = await file.read(tailOffset, tailBytes, 'the end of the zip')
  const end = findEndRecord(tail)
  if (end < 0) throw file.bad('not a whole zip file: no end record (truncated?)')
  const locator = end - END64_LOCATOR_BYTES
  if (locator >= 0 && tail.readUInt32LE(locator) === END64_LOCATOR) {
    return readEnd64(file, toSize(file, tail.readBigUInt64LE(locator + 8)), tailOffset + locator)
  }
  if (tail.readUInt16LE(end + 4) !== 0 || tail.readUInt16LE(end + 6) !== 0) {
    throw file.bad('a zip of several disks')
  }
  return {
    count: tail.readUInt16LE(end + 10),
    size: tail.readUInt32LE(end + 12),
    offset: tail.readUInt32LE(end + 16),
    endOffset: tailOffset + end,
  }
}

/**
 * The last end record whose comment reaches exactly to the end of the file; -1 if there is none.
 */
function findEndRecord(tail: Buffer): number {
  for (let at = tail.length - END_BYTES; at >= 0; at--) {
    if (tail.readUInt32LE(at) !== END) continue
    if (at + END_BYTES + tail.readUInt16LE(at + 20) === tail.length) return at
  }
  return -1
}

async function readEnd64(
  file: InputFile,
  offset: number,
  locatorOffset: number,
): Promise<Directory> {
  if (offset + END64_BYTES > locatorOffset)
    throw file.bad('the 64-bit zip end record does not lie before its locator')
  const end = await file.read(offset, END64_BYTES, 'the 64-bit zip end record')
  if (end.readUInt32LE(0) !== END64) throw file.bad(`no 64-bit zip end record at byte ${offset}`)
  if (end.readUInt32LE(16) !== 0 || end.readUInt32LE(20) !== 0)
    throw file.bad('a zip of several disks')
  return {
    count: toSize(file, end.readBigUInt64LE(32)),
    size: toSize(file, end.readBigUInt64LE(40)),
    offset: toSize(file, end.readBigUInt64LE(48)),
    endOffset: offset,
  }
}

function parseEntry(file: InputFile, directory: Buffer, at: number) {
  if (
    at + DIRECTORY_ENTRY_BYTES > directory.length ||
    directory.readUInt32LE(at) !== DIRECTORY_ENTRY
  ) {
    throw file.bad(`the zip directory is broken at its byte ${at}`)
  }
  const nameEnd = at + DIRECTORY_ENTRY_BYTES + directory.readUInt16LE(at + 28)
  const extraEnd = nameEnd + directory.readUInt16LE(at + 30)
  const next = extraEnd + directory.readUInt16LE(at + 32)
  if (next > directory.length) throw file.bad(`the zip directory is broken at its byte ${at}`)
  const name = directory.toString('utf8', at + DIRECTORY_ENTRY_BYTES, nameEnd)
  if (directory.readUInt16LE(at + 8) & ENCRYPTED)
    throw file.bad(`zip entry ${show(name)} is encrypted`)
  const method = directory.readUInt16LE(at + 10)
  if (method !== 0)
    throw file.bad(`zip entry ${show(name)} is compressed (method ${method}), expected stored`)

  const wide = zip64Fields(directory.subarray(nameEnd, extraEnd))
  const field = (value: number) => (value === SEE_ZIP64 ? wide(file, name) : value)
  // The order is that of the 64-bit fields, which are present only for those that need them.
  const size = field(directory.readUInt32LE(at + 24))
  const storedSize = field(directory.readUInt32LE(at + 20))
  const headerOffset = field(directory.readUInt32LE(at + 42))
  if (size !== storedSize)
    throw file.bad(`zip entry ${show(name)} has ${storedSize} bytes for ${size}`)
  return { entry: { name, size, headerOffset }, next }
}

/** Hands out, one by one, the 64-bit numbers of an entry's zip64 extra field. */
function zip64Fields(extra: Buffer): (file: InputFile, name: string) => number {
  let field: Buffer = Buffer.alloc(0)
  for (let at = 0; at + 4 <= extra.length; at += 4 + extra.readUInt16LE(at + 2)) {
    if (extra.readUInt16LE(at) === 1)
      field = extra.subarray(at + 4, at + 4 + extra.readUInt16LE(at + 2))
  }
  let at = 0
  return (file, name) => {
    if (at + 8 > field.length) throw file.bad(`zip entry ${show(name)} lacks its 64-bit sizes`)
    at += 8
    return toSize(file, field.readBigUInt64LE(at - 8))
  }
}

function withLimits(
  file: InputFile,
  entries: Omit<ZipEntry, 'limit'>[],
  directoryOffset: number,
): Map<string, ZipEntry> {
  entries.sort((a, b) => a.headerOffset - b.headerOffset)
  const byName = new Map<string, ZipEntry>()
  for (const [index, entry] of entries.entries()) {
    const { name, size, headerOffset } = entry
    const limit = entries[index + 1]?.headerOffset ?? directoryOffset
    const shortest = headerOffset + LOCAL_HEADER_BYTES + Buffer.byteLength(name) + size
    if (shortest > limit) throw file.bad(`zip entry ${show(name)} overlaps the next one`)
    if (byName.has(name)) throw file.bad(`zip entry ${show(name)} occurs twice`)
    byName.set(name, { ...entry, limit })
  }
  return byName
}

function toSize(file: InputFile, value: bigint): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw file.bad(`the zip claims ${value} bytes`)
  return Number(value)
}
