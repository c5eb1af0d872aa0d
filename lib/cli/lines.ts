/** Lines of a stream of bytes, in bounded memory. */

export interface Line {
  /** From 1. */
  readonly number: number
  /** Without the line break. Absent if there is a fault. */
  readonly text?: string
  readonly fault?: string
  /** Its first bytes, as Latin-1, whatever they are. */
  readonly head: string
  /** Bytes of the stream up to the end of this line. */
  readonly end: number
  /** True if a line break ended it: the last line may have none. */
  readonly isWhole: boolean
}

/** A line of more than `maxBytes` is not kept, and has a fault. */
export async function* splitLines(
  stream: AsyncIterable<Buffer>,
  maxBytes: number,
): AsyncGenerator<Line, void> {
  const reader = new LineReader(maxBytes)
  for await (const chunk of stream) {
    let from = 0
    for (let at = chunk.indexOf('\n'); at !== -1; at = chunk.indexOf('\n', from)) {
      reader.add(chunk.subarray(from, at))
      yield reader.take(true)
      from = at + 1
    }
    reader.add(chunk.subarray(from))
  }
  if (!reader.isEmpty) yield reader.take(false)
}

const HEAD_BYTES = 16

class LineReader {
  readonly #maxBytes: number
  #parts: Buffer[] = []
  #bytes = 0
  #number = 0
  #end = 0
  #head = ''

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  get isEmpty(): boolean {
    return this.#bytes === 0
  }

  add(part: Buffer): void {
    this.#bytes += part.length
    if (this.#head.length < HEAD_BYTES)
      this.#head += part.toString('latin1', 0, HEAD_BYTES - this.#head.length)
    if (this.#bytes > this.#maxBytes) this.#parts = []
    else this.#parts.push(part)
  }

  take(isWhole: boolean): Line {
    const bytes = this.#bytes
    this.#end += bytes + (isWhole ? 1 : 0)
    this.#number++
    const content =
      bytes > this.#maxBytes
        ? { fault: `expected at most ${this.#maxBytes} bytes, got ${bytes}` }
        : decode(Buffer.concat(this.#parts))
    const line = { number: this.#number, ...content, head: this.#head, end: this.#end, isWhole }
    this.#parts = []
    this.#bytes = 0
    this.#head = ''
    return line
  }
}

function decode(bytes: Buffer): { text: string } | { fault: string } {
  try {
    return { text: new TextDecoder('utf-8', { fatal: true }).decode(bytes) }
  } catch {
    return { fault: 'expected UTF-8' }
  }
}
