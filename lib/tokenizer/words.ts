/**
 * Cuts a text into the words that byte-level BPE merges within, by the few patterns that files
 * have. A pattern of a file never runs as a regular expression. A hostile one could take for
 * ever, and JavaScript's `\s` is another than that of the patterns. A word of any length takes
 * little stack, and lets other events run.
 */

import { classOf, LETTER, NEWLINE, NUMBER, OTHER, SPACE } from './character-class.js'
import { STEP } from './steps.js'

export interface WordRule {
  /** `'S` is one, too, and `'ſ`, which the case folds to. */
  readonly anyCaseContractions: boolean
  /**
   * True: letters take one other character in front, symbols take the line breaks behind them, and
   * space is cut behind its last line break. False: each run takes one space in front.
   */
  readonly isModern: boolean
  /** The most numbers in a word. */
  readonly maxDigits: number
}

const GPT2: WordRule = {
  anyCaseContractions: false,
  isModern: false,
  maxDigits: Number.POSITIVE_INFINITY,
}
const modern = (maxDigits: number): WordRule => ({
  anyCaseContractions: true,
  isModern: true,
  maxDigits,
})

const GPT2_PATTERN =
  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
const modernPattern = (digits: string) =>
  `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}` +
  '| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+'

/** By the pattern as it stands in a file. */
export const WORD_RULES: ReadonlyMap<string, WordRule> = new Map([
  [GPT2_PATTERN, GPT2],
  // Qwen2 and Qwen3.
  [modernPattern('\\p{N}'), modern(1)],
  // Llama 3, and GPT-4 as other tools write it.
  [modernPattern('\\p{N}{1,3}'), modern(3)],
])

/** ByteLevel's own pattern. */
export const BYTE_LEVEL_RULE = GPT2

/** The ends of a text's words, in order; now and then -1: no end yet. */
export function* wordEnds(text: string, rule: WordRule): Generator<number> {
  for (let at = 0; at < text.length; ) {
    const known = contractionEnd(text, at, rule) || digitsEnd(text, at, rule)
    let end = known
    if (end === 0) {
      const [from, mask] = runAt(text, at, rule)
      end = yield* skip(text, from, mask)
      if (mask === SPACE_OR_NEWLINE) end = spaceEnd(text, at, end, rule)
      else if (mask === OTHER && rule.isModern) end = yield* skip(text, end, NEWLINE)
    }
    yield end
    at = end
  }
}

const SPACE_OR_NEWLINE = SPACE | NEWLINE

/** The start of a word's run, and the classes of its characters. */
function runAt(text: string, at: number, { isModern }: WordRule): [number, number] {
  const first = text.codePointAt(at)!
  const kind = classOf(first) & RUNS
  const isSpace = (kind & SPACE_OR_NEWLINE) !== 0
  const behind = at + (first > 0xffff ? 2 : 1)
  if (behind < text.length) {
    const next = classOf(text.codePointAt(behind)!) & RUNS
    if (isModern && (kind === SPACE || kind === OTHER) && next === LETTER) return [behind, LETTER]
    if (first === 0x20 && (next === OTHER || (!isModern && (next & (LETTER | NUMBER)) !== 0)))
      return [behind, next]
  }
  return [at, isSpace ? SPACE_OR_NEWLINE : kind]
}

const RUNS = LETTER | NUMBER | SPACE | NEWLINE | OTHER

/** The first place from `at` on whose character is of no such class. */
function* skip(text: string, at: number, mask: number): Generator<number, number> {
  for (let steps = 1; at < text.length; steps++) {
    if (steps % STEP === 0) yield -1
    const codePoint = text.codePointAt(at)!
    if ((classOf(codePoint) & mask) === 0) break
    at += codePoint > 0xffff ? 2 : 1
  }
  return at
}

/** The end of the word that space makes, which reaches from `at` to `end`. */
function spaceEnd(text: string, at: number, end: number, { isModern }: WordRule): number {
  if (isModern) {
    let line = end
    while (line > at && (classOf(text.charCodeAt(line - 1)) & NEWLINE) === 0) line--
    if (line > at) return line
  }
  // The last one may belong to the word behind. Each is one UTF-16 unit.
  return end === text.length || end - at === 1 ? end : end - 1
}

/** The end of a contraction's end, `'ll` say; 0 if there is none. */
function contractionEnd(text: string, at: number, { anyCaseContractions }: WordRule): number {
  if (text.charCodeAt(at) !== 0x27) return 0
  const pattern = anyCaseContractions ? ANY_CASE : LOWER_CASE
  const found = pattern.exec(text.slice(at + 1, at + 3))
  return found ? at + 1 + found[0].length : 0
}

const LOWER_CASE = /^(?:s|t|re|ve|m|ll|d)/u
const ANY_CASE = /^(?:s|t|re|ve|m|ll|d)/iu

/** The end of a word of numbers; 0 if there is none, or one of any length. */
function digitsEnd(text: string, at: number, { maxDigits }: WordRule): number {
  if (maxDigits === Number.POSITIVE_INFINITY) return 0
  let end = at
  for (let count = 0; count < maxDigits && end < text.length; count++) {
    const codePoint = text.codePointAt(end)!
    if ((classOf(codePoint) & NUMBER) === 0) break
    end += codePoint > 0xffff ? 2 : 1
  }
  return end === at ? 0 : end
}
