// Writes GGUF files (version 3), the format of llama.cpp: a header of typed key-value pairs and
// tensor descriptions, then the tensors' bytes, each aligned. Source: the format's description in
// ggml's docs/gguf.md.
import { closeSync, openSync, writeSync } from 'node:fs'

const ALIGNMENT = 32

/** Value types of the header. */
const U32 = 4
const I32 = 5
const F32 = 6
const BOOL = 7
const STRING = 8
const ARRAY = 9

/** Tensor types: their number, and bytes per block of so many values. */
export const TYPES = {
  F32: { id: 0, block: 1, bytes: 4, fileType: 0 },
  Q4_0: { id: 2, block: 32, bytes: 18, fileType: 2 },
  Q8_0: { id: 8, block: 32, bytes: 34, fileType: 7 },
  BF16: { id: 30, block: 1, bytes: 2, fileType: 32 },
}

export const u32 = value => ({ type: U32, value })
export const f32 = value => ({ type: F32, value })
export const boolean = value => ({ type: BOOL, value })
export const string = value => ({ type: STRING, value })
export const strings = value => ({ type: ARRAY, of: STRING, value })
export const floats = value => ({ type: ARRAY, of: F32, value })
export const integers = value => ({ type: ARRAY, of: I32, value })

/** Bytes that grow. */
class Bytes {
  #parts = []
  length = 0

  add(buffer) {
    this.#parts.push(buffer)
    this.length += buffer.length
  }

  u32(value) {
    const buffer = Buffer.alloc(4)
    buffer.writeUInt32LE(value)
    this.add(buffer)
  }

  u64(value) {
    const buffer = Buffer.alloc(8)
    buffer.writeBigUInt64LE(BigInt(value))
    this.add(buffer)
  }

  string(text) {
    const bytes = Buffer.from(text)
    this.u64(bytes.length)
    this.add(bytes)
  }

  value({ type, of, value }) {
    if (type === STRING) this.string(value)
    else if (type === BOOL) this.add(Buffer.of(value ? 1 : 0))
    else if (type === ARRAY) {
      this.u32(of)
      this.u64(value.length)
      if (of === STRING) for (const text of value) this.string(text)
      else this.add(Buffer.from((of === F32 ? Float32Array : Int32Array).from(value).buffer))
    } else {
      this.add(Buffer.from((type === F32 ? Float32Array : Uint32Array).of(value).buffer))
    }
  }

  all() {
    return Buffer.concat(this.#parts)
  }
}

const aligned = size => Math.ceil(size / ALIGNMENT) * ALIGNMENT

function bytesOf({ type, shape }) {
  const { block, bytes } = TYPES[type]
  return (shape.reduce((a, b) => a * b, 1) / block) * bytes
}

/**
 * Writes a file. `tensors` are {name, type, shape (rows first), content}; `content()` yields the
 * tensor's bytes in pieces, so that no tensor need be in memory.
 */
export function writeGguf(path, metadata, tensors) {
  const header = new Bytes()
  header.add(Buffer.from('GGUF'))
  header.u32(3)
  header.u64(tensors.length)
  header.u64(Object.keys(metadata).length)
  for (const [key, value] of Object.entries(metadata)) {
    header.string(key)
    header.u32(value.type)
    header.value(value)
  }
  let offset = 0
  for (const tensor of tensors) {
    header.string(tensor.name)
    header.u32(tensor.shape.length)
    for (const size of tensor.shape.toReversed()) header.u64(size)
    header.u32(TYPES[tensor.type].id)
    header.u64(offset)
    offset += aligned(bytesOf(tensor))
  }
  header.add(Buffer.alloc(aligned(header.length) - header.length))

  const file = openSync(path, 'w')
  try {
    writeAll(file, header.all())
    for (const tensor of tensors) {
      const expected = bytesOf(tensor)
      let written = 0
      for (const bytes of tensor.content()) {
        writeAll(file, bytes)
        written += bytes.length
      }
      if (written !== expected)
        throw new Error(`${tensor.name}: ${written} bytes, expected ${expected}`)
      writeAll(file, Buffer.alloc(aligned(expected) - expected))
    }
  } finally {
    closeSync(file)
  }
}

function writeAll(file, bytes) {
  for (let done = 0; done < bytes.length; ) done += writeSync(file, bytes, done)
}
