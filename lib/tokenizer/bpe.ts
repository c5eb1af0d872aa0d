/** Byte-pair encoding of a text that has been normalised. */

import { LongestMatch } from './longest-match.js'
import { mergeLong, mergeShort, SHORT } from './merge.js'
import { MergeTable, type SymbolMerge } from './merge-table.js'
import { joined } from './normalize.js'
import { STEP, type Steps } from './steps.js'
import { utf8 } from './utf8.js'

export interface Merge {
  readonly left: string
  readonly right: string
  /** The lowest goes first; of equal ones, the leftmost in the text. */
  readonly rank: number
}

export interface BpeModel {
  /** Token ids by text. Each result of a merge has one. */
  readonly ids: ReadonlyMap<string, number>
  /** Of two with the same parts, the last one counts. */
  readonly merges: readonly Merge[]
  /** Texts that are one token each and never merge. The longest at a place is taken. */
  readonly units: readonly string[]
  /** Stands for a character that is no token; without one, such a character gives nothing. */
  readonly unkTokenId: number | undefined
  /** Several unknown tokens in a row are one. */
  readonly fuseUnk: boolean
  /** Ids of the bytes, by value: they stand for a character that is no token. */
  readonly byteIds: readonly (number | undefined)[] | undefined
  /** A text that is a token as a whole is taken as that token. */
  readonly ignoreMerges: boolean
}

export class Bpe {
  /** The most UTF-16 units of a text that one token stands for; Infinity if there is no bound. */
  readonly maxTokenLength: number
  readonly #model: BpeModel
  readonly #units: LongestMatch
  /** By code point. */
  readonly #symbols: ReadonlyMap<number, number>
  /** By symbol: its token id, or the complement of its code point if it is no token. */
  readonly #outputs: Int32Array
  readonly #merges: MergeTable
  /** Pairs of symbols that are adjacent characters of a text that comes out of a merge. */
  readonly #joined: MergeTable

  constructor(model: BpeModel) {
    this.#model = model
    this.#units = new LongestMatch(model.units)
    const symbols = new SymbolIds()
    const merges = model.merges.map(({ left, right, rank }): SymbolMerge => {
      const merged = symbols.of(left + right)
      return { left: symbols.of(left), right: symbols.of(right), merged, rank }
    })
    const results = new Set(model.merges.map(({ left, right }) => left + right))
    this.#merges = new MergeTable(merges)
    this.#joined = joinedCharacters(results, symbols)
    for (const text of model.ids.keys()) if (isCharacter(text)) symbols.of(text)
    this.#symbols = symbols.characters()
    this.#outputs = Int32Array.from(
      symbols.texts,
      text => model.ids.get(text) ?? ~text.codePointAt(0)!,
    )
    this.maxTokenLength = maxTokenLength(model, results)
  }

  /**
   * Appends the ids of a text, which comes in pieces of any length. Its characters are whole
   * once the pieces are joined.
   *
   * The text is cut between two characters that are adjacent in no result of a merge. No merge
   * can cross such a place. Merges on its two sides never meet.
   */
  *encode(chunks: Iterable<string>, ids: number[]): Steps {
    const text = this.#model.ignoreMerges ? yield* joined(chunks) : undefined
    const whole = text ? this.#model.ids.get(text) : undefined
    if (whole !== undefined) {
      ids.push(whole)
      return
    }
    const output = new Output(this.#model, this.#outputs, ids)
    // A unit, or a character of two UTF-16 units, may reach beyond the end of a piece.
    const reach = Math.max(2, this.#units.maxLength) - 1
    let rest = ''
    for (const chunk of text === undefined ? chunks : [text]) {
      rest += chunk
      const taken = yield* this.#scan(rest, rest.length - reach, output)
      rest = rest.slice(taken)
    }
    yield* this.#scan(rest, rest.length, output)
    yield* this.#flush(output)
  }

  /** As encode, in one go: for a text of up to SHORT characters, each of them a token. */
  encodeShort(text: string, ids: number[]): void {
    const whole = this.#model.ignoreMerges ? this.#model.ids.get(text) : undefined
    if (whole !== undefined) {
      ids.push(whole)
      return
    }
    const symbols: number[] = []
    for (let i = 0; i < text.length; i++) symbols.push(this.#symbols.get(text.charCodeAt(i))!)
    if (symbols.length > 1) mergeShort(symbols, this.#merges)
    for (let i = 0; i < symbols.length; i++) ids.push(this.#outputs[symbols[i]!]!)
  }

  /** Takes the characters that begin before `end`; returns where the next one begins. */
  *#scan(text: string, end: number, output: Output): Steps<number> {
    const { part } = output
    let at = 0
    for (let steps = 1; at < end; steps++) {
      if (steps % STEP === 0) yield
      const unit = this.#units.maxLength > 0 ? this.#units.at(text, at) : undefined
      if (unit !== undefined) {
        yield* this.#flush(output)
        output.token(this.#model.ids.get(unit)!)
        at += unit.length
        continue
      }
      const codePoint = text.codePointAt(at)!
      at += codePoint > 0xffff ? 2 : 1
      const symbol = this.#symbols.get(codePoint) ?? -1
      const { length } = part
      if (length > 0 && (symbol === -1 || this.#joined.find(output.last, symbol) === -1)) {
        if (length > SHORT) yield* this.#flush(output)
        else this.#flushShort(output)
      }
      if (symbol === -1) output.unknown(codePoint)
      else part.push(symbol)
      output.last = symbol
    }
    return at
  }

  *#flush(output: Output): Steps {
    if (output.part.length <= SHORT) {
      this.#flushShort(output)
      return
    }
    const symbols = yield* mergeLong(output.part, this.#merges)
    for (const [i, symbol] of symbols.entries()) {
      if (i % STEP === 0) yield
      output.symbol(symbol)
    }
    output.part.length = 0
  }

  #flushShort(output: Output): void {
    const { part } = output
    if (part.length > 1) mergeShort(part, this.#merges)
    for (let i = 0; i < part.length; i++) output.symbol(part[i]!)
    part.length = 0
  }
}

/** The ids of one text as they come, and the part of it whose merges are still open. */
class Output {
  readonly part: number[] = []
  /** The symbol before, or -1. Says nothing while the part is empty. */
  last = -1
  readonly #model: BpeModel
  readonly #outputs: Int32Array
  readonly #ids: number[]
  #isAfterUnk = false

  constructor(model: BpeModel, outputs: Int32Array, ids: number[]) {
    this.#model = model
    this.#outputs = outputs
    this.#ids = ids
  }

  symbol(symbol: number): void {
    const id = this.#outputs[symbol]!
    if (id >= 0) this.token(id)
    else this.unknown(~id)
  }

  token(id: number): void {
    const isUnk = id === this.#model.unkTokenId
    if (!(isUnk && this.#isAfterUnk && this.#model.fuseUnk)) this.#ids.push(id)
    this.#isAfterUnk = isUnk
  }

  /** A character that is no token. */
  unknown(codePoint: number): void {
    const { byteIds, unkTokenId } = this.#model
    const ids = byteIds && utf8(codePoint).map(byte => byteIds[byte])
    if (ids?.every(id => id !== undefined)) for (const id of ids) this.token(id!)
    else if (unkTokenId !== undefined) this.token(unkTokenId)
  }
}

/** Numbers the texts that merge. */
class SymbolIds {
  readonly texts: string[] = []
  readonly #ids = new Map<string, number>()

  of(text: string): number {
    const known = this.#ids.get(text)
    if (known !== undefined) return known
    this.#ids.set(text, this.texts.length)
    return this.texts.push(text) - 1
  }

  /** The symbols that are one character, by code point. */
  characters(): Map<number, number> {
    const characters = new Map<number, number>()
    for (const [symbol, text] of this.texts.entries()) {
      if (isCharacter(text)) characters.set(text.codePointAt(0)!, symbol)
    }
    return characters
  }
}

function joinedCharacters(texts: Iterable<string>, symbols: SymbolIds): MergeTable {
  const pairs = new Map<string, SymbolMerge>()
  for (const text of texts) {
    let previous = ''
    for (const character of text) {
      const pair = previous + character
      if (previous !== '' && !pairs.has(pair)) {
        const [left, right] = [symbols.of(previous), symbols.of(character)]
        pairs.set(pair, { left, right, merged: -1, rank: -1 })
      }
      previous = character
    }
  }
  return new MergeTable([...pairs.values()])
}

/** The most UTF-16 units that one token stands for. */
function maxTokenLength(model: BpeModel, results: Iterable<string>): number {
  const { ids, units, unkTokenId, fuseUnk, byteIds, ignoreMerges } = model
  const hasBytes =
    byteIds !== undefined && !byteIds.some(id => id === undefined || id === unkTokenId)
  const merged = new Set(results)
  const isUnk = (text: string) =>
    ids.get(text) === unkTokenId && (isCharacter(text) || merged.has(text))
  // One unknown token, or nothing at all, may stand for any number of characters.
  const hasUnk = !hasBytes || [...ids.keys()].some(isUnk)
  if (hasUnk && (fuseUnk || unkTokenId === undefined)) return Number.POSITIVE_INFINITY
  // A character has up to 2 units.
  let most = 2
  for (const texts of [merged, units, ignoreMerges ? ids.keys() : []]) {
    for (const text of texts) most = Math.max(most, text.length)
  }
  return most
}

function isCharacter(text: string): boolean {
  return text.length === 1 || (text.length === 2 && text.codePointAt(0)! > 0xffff)
}
