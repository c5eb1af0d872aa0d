/**
 * The tokens of a text that comes in pieces, as encoding the whole text gives them, in bounded
 * memory.
 *
 * The text is cut into segments at places that no token crosses. Line ends before a visible
 * character are such places. If a segment has none, the space in front of a word is tried, then
 * any place. Each is tested: the text around it must give the same tokens in one piece and in two.
 * If no place of a segment passes, as in a megabyte of one letter, the cut is made all the same.
 * The tokens beside it may be others.
 */
import { TimeSlice } from '../base/time-slice.js'
import type { Tokenizer } from '../tokenizer/tokenizer.js'

/** UTF-16 units of a segment at most: two milliseconds of encoding. */
const SEGMENT = 16384
/** Units on each side of a place that is tested: longer than any token but runs of space. */
const AROUND = 32
/** Places of a kind that are tested in a segment. */
const TRIES = 64
/**
 * Tokenizers may put a space in front of a text. So a segment is encoded behind a line end, whose
 * tokens are left out.
 */
const ANCHOR = '\n'

export interface Segment {
  readonly ids: readonly number[]
  /** UTF-16 units of the text. */
  readonly length: number
}

export async function* segments(
  tokenizer: Tokenizer,
  text: AsyncIterable<string>,
): AsyncGenerator<Segment> {
  const encoder = new Continuation(tokenizer)
  const slice = new TimeSlice()
  let rest = ''
  let isFirst = true
  const take = (length: number): Segment => {
    const part = rest.slice(0, length)
    rest = rest.slice(length)
    const ids = isFirst ? encoder.whole(part) : encoder.behind(part)
    isFirst = false
    return { ids, length }
  }
  for await (const piece of text) {
    for (let at = 0; at < piece.length; ) {
      const end = at + SEGMENT + AROUND - rest.length
      rest += piece.slice(at, end)
      at = end
      if (rest.length < SEGMENT + AROUND) break
      yield take(encoder.cut(rest))
      await slice.pauseIfOver()
    }
  }
  if (rest !== '') yield take(rest.length)
}

/** Encodes a text that others stand in front of. */
class Continuation {
  readonly #tokenizer: Tokenizer
  readonly #anchorTokens: number

  constructor(tokenizer: Tokenizer) {
    this.#tokenizer = tokenizer
    // A letter behind a line end is one token: the others are the line end's.
    this.#anchorTokens = this.whole(`${ANCHOR}a`).length - 1
  }

  whole(text: string): number[] {
    return this.#tokenizer.encode(text, { addSpecialTokens: false })
  }

  behind(text: string): number[] {
    return this.whole(ANCHOR + text).slice(this.#anchorTokens)
  }

  /** The end of the segment that `text` begins with. */
  cut(text: string): number {
    for (const kind of KINDS) {
      let tries = 0
      for (let at = SEGMENT; at > 0 && tries < TRIES; at--) {
        if (!kind(text, at)) continue
        tries++
        if (this.#isClean(text, at)) return at
      }
    }
    return isPair(text, SEGMENT) ? SEGMENT - 1 : SEGMENT
  }

  #isClean(text: string, at: number): boolean {
    const before = text.slice(Math.max(0, at - AROUND), at)
    const after = text.slice(at, at + AROUND)
    const apart = [...this.whole(before), ...this.behind(after)]
    const together = this.whole(before + after)
    return together.length === apart.length && together.every((id, i) => id === apart[i])
  }
}

/** True where a text may be cut, from the best kind of places on. */
const KINDS: readonly ((text: string, at: number) => boolean)[] = [
  (text, at) => text[at - 1] === '\n' && isVisible(text, at),
  (text, at) => text[at] === ' ' && isVisible(text, at - 1) && isVisible(text, at + 1),
  (text, at) => !isPair(text, at),
]

function isVisible(text: string, at: number): boolean {
  return !/\s/.test(text[at]!)
}

/** True between the halves of a surrogate pair. */
function isPair(text: string, at: number): boolean {
  return text.codePointAt(at - 1)! > 0xffff
}
