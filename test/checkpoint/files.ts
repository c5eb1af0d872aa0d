/**
 * Files for the tests of this folder: builders of small hand-made ones.
 */

import { closeSync, mkdirSync, openSync, readFileSync, readSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { TensorRef } from '../../lib/tensor/tensor-ref.js'
import { root } from '../support/golden.js'

export const BOOKS = join(root, 'models', 'books-7m')

/** A tensor's elements in row-major order. */
export function readValues(ref: TensorRef): number[] {
  const bytes = Buffer.alloc(ref.byteLength)
  const file = openSync(ref.file, 'r')
  readSync(file, bytes, 0, bytes.length, ref.byteOffset)
  closeSync(file)
  const strides = ref.strides ?? rowMajor(ref.shape)
  const values: number[] = []
  const walk = (axis: number, offset: number) => {
    if (axis === ref.shape.length) values.push(element(ref, bytes, offset))
    else for (let i = 0; i < ref.shape[axis]!; i++) walk(axis + 1, offset + i * strides[axis]!)
  }
  walk(0, 0)
  return values
}

function element(ref: TensorRef, bytes: Buffer, index: number): number {
  if (ref.dtype === 'f32') return bytes.readFloatLE(index * 4)
  if (ref.dtype === 'f16') return half(bytes.readUInt16LE(index * 2))
  const word = Buffer.alloc(4)
  word.writeUInt16LE(bytes.readUInt16LE(index * 2), 2)
  return word.readFloatLE()
}

function half(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1
  const exponent = (bits >> 10) & 31
  const fraction = (bits & 1023) / 1024
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN
  return sign * (exponent === 0 ? fraction * 2 ** -14 : (1 + fraction) * 2 ** (exponent - 15))
}

/** An I32 tensor of a safetensors file, a type that the loader itself does not read. */
export function readInt32(path: string, name: string): number[] {
  const bytes = readFileSync(path)
  const start = 8 + Number(bytes.readBigUInt64LE())
  const [begin, end] = JSON.parse(bytes.toString('utf8', 8, start))[name].data_offsets
  return Array.from({ length: (end - begin) / 4 }, (_, i) =>
    bytes.readInt32LE(start + begin + 4 * i),
  )
}

export function rowMajor(shape: readonly number[]): number[] {
  const strides = shape.map(() => 1)
  for (let axis = shape.length - 2; axis >= 0; axis--)
    strides[axis] = strides[axis + 1]! * shape[axis + 1]!
  return strides
}

export function safetensorsBytes(header: unknown, data: Buffer = Buffer.alloc(0)): Buffer {
  const text = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(text.length))
  return Buffer.concat([length, text, data])
}

/** A pickle of the given parts between PROTO 2 and STOP. */
export function pickleBytes(...parts: (Buffer | string)[]): Buffer {
  return Buffer.concat([
    Buffer.from([0x80, 2]),
    ...parts.map(part => (typeof part === 'string' ? Buffer.from(part, 'latin1') : part)),
    Buffer.from('.'),
  ])
}

export const pickled = {
  text: (text: string) => {
    const bytes = Buffer.from(text)
    const length = Buffer.alloc(4)
    length.writeUInt32LE(bytes.length)
    return Buffer.concat([Buffer.from('X'), length, bytes])
  },
  integer: (value: number) => {
    const bytes = Buffer.alloc(5)
    bytes[0] = 0x4a
    bytes.writeInt32LE(value, 1)
    return bytes
  },
  global: (module: string, name: string) => Buffer.from(`c${module}\n${name}\n`),
  tuple: (...items: Buffer[]) => Buffer.concat([Buffer.from('('), ...items, Buffer.from('t')]),
  dict: (...items: Buffer[]) => Buffer.concat([Buffer.from('}('), ...items, Buffer.from('u')]),
  tensor: (options: TensorPickle) => tensorPickle(options),
}

interface TensorPickle {
  key?: string
  type?: string
  length: number
  offset?: number
  shape: number[]
  strides?: number[]
}

function tensorPickle({
  key = '0',
  type = 'FloatStorage',
  length,
  offset = 0,
  shape,
  strides,
}: TensorPickle) {
  const storage = pickled.tuple(
    pickled.text('storage'),
    pickled.global('torch', type),
    pickled.text(key),
    pickled.text('cpu'),
    pickled.integer(length),
  )
  return Buffer.concat([
    pickled.global('torch._utils', '_rebuild_tensor_v2'),
    pickled.tuple(
      Buffer.concat([storage, Buffer.from('Q')]),
      pickled.integer(offset),
      pickled.tuple(...shape.map(pickled.integer)),
      pickled.tuple(...(strides ?? rowMajor(shape)).map(pickled.integer)),
      Buffer.from([0x89]),
      Buffer.concat([pickled.global('collections', 'OrderedDict'), Buffer.from(')R')]),
    ),
    Buffer.from('R'),
  ])
}

export interface ZipOptions {
  /** Sizes and offsets in 64-bit fields, the 32-bit ones filled with ones. */
  zip64?: boolean
  method?: number
}

/** A zip of stored entries. */
export function zipBytes(
  entries: [name: string, data: Buffer][],
  { zip64 = false, method = 0 }: ZipOptions = {},
) {
  const parts: Buffer[] = []
  const directory: Buffer[] = []
  let offset = 0
  for (const [name, data] of entries) {
    const local = Buffer.alloc(30)
    local.writeUInt32LE(0x04034b50, 0)
    local.writeUInt16LE(method, 8)
    local.writeUInt32LE(data.length, 18)
    local.writeUInt32LE(data.length, 22)
    local.writeUInt16LE(Buffer.byteLength(name), 26)
    directory.push(directoryEntry(name, data.length, offset, zip64, method))
    parts.push(local, Buffer.from(name), data)
    offset += local.length + Buffer.byteLength(name) + data.length
  }
  const size = directory.reduce((sum, entry) => sum + entry.length, 0)
  return Buffer.concat([...parts, ...directory, endRecords(entries.length, size, offset, zip64)])
}

function directoryEntry(
  name: string,
  size: number,
  offset: number,
  zip64: boolean,
  method: number,
): Buffer {
  const extra = Buffer.alloc(zip64 ? 28 : 0)
  if (zip64) {
    extra.writeUInt16LE(1, 0)
    extra.writeUInt16LE(24, 2)
    extra.writeBigUInt64LE(BigInt(size), 4)
    extra.writeBigUInt64LE(BigInt(size), 12)
    extra.writeBigUInt64LE(BigInt(offset), 20)
  }
  const entry = Buffer.alloc(46)
  entry.writeUInt32LE(0x02014b50, 0)
  entry.writeUInt16LE(method, 10)
  entry.writeUInt32LE(zip64 ? 0xffffffff : size, 20)
  entry.writeUInt32LE(zip64 ? 0xffffffff : size, 24)
  entry.writeUInt16LE(Buffer.byteLength(name), 28)
  entry.writeUInt16LE(extra.length, 30)
  entry.writeUInt32LE(zip64 ? 0xffffffff : offset, 42)
  return Buffer.concat([entry, Buffer.from(name), extra])
}

function endRecords(count: number, size: number, offset: number, zip64: boolean): Buffer {
  const end = Buffer.alloc(22)
  end.writeUInt32LE(0x06054b50, 0)
  end.writeUInt16LE(zip64 ? 0xffff : count, 8)
  end.writeUInt16LE(zip64 ? 0xffff : count, 10)
  end.writeUInt32LE(zip64 ? 0xffffffff : size, 12)
  end.writeUInt32LE(zip64 ? 0xffffffff : offset, 16)
  if (!zip64) return end
  const end64 = Buffer.alloc(56)
  end64.writeUInt32LE(0x06064b50, 0)
  end64.writeBigUInt64LE(44n, 4)
  end64.writeBigUInt64LE(BigInt(count), 24)
  end64.writeBigUInt64LE(BigInt(count), 32)
  end64.writeBigUInt64LE(BigInt(size), 40)
  end64.writeBigUInt64LE(BigInt(offset), 48)
  const locator = Buffer.alloc(20)
  locator.writeUInt32LE(0x07064b50, 0)
  locator.writeBigUInt64LE(BigInt(offset + size), 8)
  locator.writeUInt32LE(1, 16)
  return Buffer.concat([end64, locator, end])
}

/** A torch zip of one folder: the pickle, and storages by key. */
export function torchZip(
  pickle: Buffer,
  storages: Record<string, Buffer> = {},
  options?: ZipOptions,
): Buffer {
  const data = Object.entries(storages).map(([key, bytes]): [string, Buffer] => [
    `archive/data/${key}`,
    bytes,
  ])
  return zipBytes(
    [['archive/data.pkl', pickle], ['archive/byteorder', Buffer.from('little')], ...data],
    options,
  )
}

/** Writes files into a new directory under `root` and gives back its path. */
export function directoryWith(
  root: string,
  name: string,
  files: Record<string, Buffer | string>,
): string {
  const directory = join(root, name)
  mkdirSync(directory, { recursive: true })
  for (const [file, bytes] of Object.entries(files)) writeFileSync(join(directory, file), bytes)
  return directory
}
