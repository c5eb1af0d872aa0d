/**
 * Unicode's normal form C of a text in pieces. The library's normalizer is the engine's.
 * It sorts a run of marks in the square of its length: 40,000 take 4 s on two cores of an AMD EPYC.
 * So long runs are sorted here before.
 */

import { classOf, MARK } from './character-class.js'
import type { LibraryNormalizer } from './library.js'

/** The most UTF-16 units that become one: U+1F82 has four. */
export const NFC_SHRINKING = 4

/** From here on, sorting the marks before is the faster way. */
const LONG_RUN = 64

/** Text after the last safe place waits for the next piece. An empty piece lets others run. */
export function* nfc(chunks: Iterable<string>, normalizer: LibraryNormalizer): Generator<string> {
  let held: string[] = []
  for (const chunk of chunks) {
    const end = lastSafePlace(chunk)
    if (end === -1) {
      held.push(chunk)
      yield ''
      continue
    }
    yield* normalized(held.join('') + chunk.slice(0, end), normalizer)
    held = [chunk.slice(end)]
  }
  yield* normalized(held.join(''), normalizer)
}

/**
 * The last place in front of a character that never joins with those before it; -1 if there is
 * none.
 */
function lastSafePlace(text: string): number {
  for (let at = text.length - 1; at >= 0; at--) if (isSafe(text, at)) return at
  return -1
}

/**
 * True for a character that is no mark and no vowel or final consonant of Hangul. Beyond the Basic
 * Multilingual Plane there are letters that join, so only emoji and ideographs count.
 */
function isSafe(text: string, at: number): boolean {
  const codePoint = text.codePointAt(at)!
  if (codePoint < 0x300) return true
  const isSurrogate = codePoint >= 0xd800 && codePoint <= 0xdfff
  const isConjoining = codePoint >= 0x1160 && codePoint <= 0x11ff
  if (isSurrogate || isConjoining || (codePoint > 0xffff && codePoint < 0x1f000)) return false
  return (classOf(codePoint) & MARK) === 0
}

function* normalized(text: string, normalizer: LibraryNormalizer): Generator<string> {
  let start = 0
  const parts: string[] = []
  for (let at = 0; at < text.length; ) {
    const end = marksEnd(text, at)
    if (end - at >= LONG_RUN) {
      parts.push(text.slice(start, at), yield* sortedMarks(text.slice(at, end)))
      start = end
    }
    at = end + 1
  }
  yield normalizer.normalize(parts.join('') + text.slice(start))
}

/** The end of the run of marks that begins at `at`, which may be empty. */
function marksEnd(text: string, at: number): number {
  let end = at
  while (end < text.length) {
    const codePoint = text.codePointAt(end)!
    if ((classOf(codePoint) & MARK) === 0) break
    end += codePoint > 0xffff ? 2 : 1
  }
  return end
}

/** Decomposed, and in canonical order: marks of one class keep their order. */
function* sortedMarks(marks: string): Generator<string, string> {
  const orders = markOrders()
  const sorted: string[] = []
  let open: string[][] = []
  let steps = 0
  for (const mark of marks) {
    if (++steps % LONG_RUN === 0) yield ''
    for (const part of mark.normalize('NFD')) {
      const order = orders.get(part)
      if (order === undefined) {
        // A mark of class 0 stays where it is, and no other passes it.
        for (const equal of open) if (equal) sorted.push(equal.join(''))
        open = []
        sorted.push(part)
      } else {
        open[order] ??= []
        open[order].push(part)
      }
    }
  }
  for (const equal of open) if (equal) sorted.push(equal.join(''))
  return sorted.join('')
}

let allOrders: ReadonlyMap<string, number> | undefined

/**
 * Marks by the order of their canonical combining class, those of class 0 left out. JavaScript does
 * not tell the classes, but `normalize` exchanges two marks if that of the second one is lower.
 */
function markOrders(): ReadonlyMap<string, number> {
  if (allOrders) return allOrders
  const marks: string[] = []
  for (let codePoint = 0x300; codePoint < 0x1f000; codePoint++) {
    if ((classOf(codePoint) & MARK) === 0) continue
    const mark = String.fromCodePoint(codePoint)
    if (mark.normalize('NFD') === mark && hasClass(mark)) marks.push(mark)
  }
  marks.sort((a, b) => Number(isExchanged(a, b)) - Number(isExchanged(b, a)))
  const orders = new Map<string, number>()
  let order = 0
  for (const [i, mark] of marks.entries()) {
    if (i > 0 && isExchanged(mark, marks[i - 1]!)) order++
    orders.set(mark, order)
  }
  allOrders = orders
  return orders
}

/** U+0334 has the lowest class, U+0345 the highest. */
function hasClass(mark: string): boolean {
  return isExchanged(mark, '\u0334') || isExchanged('\u0345', mark)
}

function isExchanged(left: string, right: string): boolean {
  return (left + right).normalize('NFD') !== left + right
}
