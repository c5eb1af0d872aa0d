// Reads bf16 tensors of a synthetic checkpoint piece by piece.
import { closeSync, openSync, readFileSync, readSync } from 'node:fs'
import { join } from 'node:path'

/** Values read at a time: whole rows of all shapes here. */
const PIECE = 3 << 20

export class Checkpoint {
  #file
  #header
  #data

  constructor(directory) {
    this.config = JSON.parse(readFileSync(join(directory, 'config.json'), 'utf8'))
    this.#file = openSync(join(directory, 'model.safetensors'), 'r')
    const length = Number(this.#read(0, 8).readBigUInt64LE())
    this.#header = JSON.parse(this.#read(8, length).toString())
    this.#data = 8 + length
  }

  /** bf16 bits of rows [from, to) of a matrix, in pieces of whole rows. */
  *rows(name, from = 0, to = undefined) {
    const { shape, data_offsets: offsets } = this.#header[name]
    const columns = shape.at(-1)
    const end = to ?? shape.reduce((a, b) => a * b, 1) / columns
    const step = Math.max(1, Math.floor(PIECE / columns))
    for (let row = from; row < end; row += step) {
      const count = Math.min(step, end - row) * columns
      const bytes = this.#read(this.#data + offsets[0] + 2 * row * columns, 2 * count)
      yield new Uint16Array(bytes.buffer, bytes.byteOffset, count)
    }
  }

  /** All of a tensor. */
  values(name) {
    const parts = [...this.rows(name)]
    const all = new Uint16Array(parts.reduce((sum, part) => sum + part.length, 0))
    let at = 0
    for (const part of parts) {
      all.set(part, at)
      at += part.length
    }
    return all
  }

  close() {
    closeSync(this.#file)
  }

  #read(offset, length) {
    // Not from the pool, whose offset need not be even.
    const bytes = Buffer.from(new ArrayBuffer(length))
    for (let done = 0; done < length; ) {
      const read = readSync(this.#file, bytes, done, length - done, offset + done)
      if (read === 0) throw new Error('the checkpoint ends too early')
      done += read
    }
    return bytes
  }
}
