/**
 * Regular expressions as expressions of a grammar: JavaScript's syntax with the flag `u`. Things
 * that depend on a place in the text, or on what a group matched, are refused.
 */
import type { MoeppError } from '../errors.js'
import { badGrammar } from './errors.js'
import {
  ALL_CHARACTERS,
  characters,
  complement,
  DIGITS,
  EMPTY,
  type Expression,
  either,
  type Range,
  repeat,
  runs,
  sequence,
  single,
  union,
  WORD,
} from './expression.js'

/** The form that characters of the expression have in the text. */
export type Alphabet = (ranges: readonly Range[]) => Expression

type Node =
  | { readonly kind: 'characters'; readonly ranges: readonly Range[] }
  | { readonly kind: 'begin' | 'end' }
  | { readonly kind: 'sequence'; readonly parts: readonly Node[] }
  | { readonly kind: 'either'; readonly options: readonly Node[] }
  | { readonly kind: 'repeat'; readonly body: Node; readonly least: number; readonly most: number }

/** Texts that match as a whole. */
export function wholeMatch(pattern: string, place: string, alphabet: Alphabet): Expression {
  return new Anchored(place, alphabet, false).of(parseRegex(pattern, place))
}

/** Texts that match somewhere, as the keyword `pattern` of JSON Schema means it. */
export function anyMatch(pattern: string, place: string, alphabet: Alphabet): Expression {
  return new Anchored(place, alphabet, true).of(parseRegex(pattern, place))
}

/** Makes expressions of nodes. Anchors may stand at the ends of the whole pattern alone. */
class Anchored {
  readonly #place: string
  readonly #alphabet: Alphabet
  /** May stand where no anchor is. */
  readonly #around: Expression

  constructor(place: string, alphabet: Alphabet, isSearch: boolean) {
    this.#place = place
    this.#alphabet = alphabet
    this.#around = isSearch ? repeat(alphabet(ALL_CHARACTERS), 0) : EMPTY
  }

  of(node: Node): Expression {
    if (node.kind === 'either') return either(...node.options.map(option => this.of(option)))
    const parts = node.kind === 'sequence' ? node.parts : [node]
    const [only] = parts
    if (parts.length === 1 && (only!.kind === 'either' || only!.kind === 'sequence'))
      return this.of(only!)
    let [from, to] = [0, parts.length]
    while (parts[from]?.kind === 'begin') from++
    while (to > from && parts[to - 1]!.kind === 'end') to--
    return sequence(
      from > 0 ? EMPTY : this.#around,
      ...parts.slice(from, to).map(part => this.#inner(part)),
      to < parts.length ? EMPTY : this.#around,
    )
  }

  #inner(node: Node): Expression {
    switch (node.kind) {
      case 'characters':
        return this.#alphabet(node.ranges)
      case 'sequence':
        return sequence(...node.parts.map(part => this.#inner(part)))
      case 'either':
        return either(...node.options.map(option => this.#inner(option)))
      case 'repeat':
        return repeat(this.#inner(node.body), node.least, node.most)
      default: {
        const anchor = node.kind === 'begin' ? '^ is not at the beginning' : '$ is not at the end'
        throw badGrammar(this.#place, `${anchor} of the pattern, which is not supported`)
      }
    }
  }
}

const SPACE: readonly Range[] = union([
  [0x09, 0x0d],
  [0x20, 0x20],
  [0xa0, 0xa0],
  [0x1680, 0x1680],
  [0x2000, 0x200a],
  [0x2028, 0x2029],
  [0x202f, 0x202f],
  [0x205f, 0x205f],
  [0x3000, 0x3000],
  [0xfeff, 0xfeff],
])
const NO_LINE_END = complement([
  [0x0a, 0x0a],
  [0x0d, 0x0d],
  [0x2028, 0x2029],
])

const CLASSES: Readonly<Record<string, readonly Range[]>> = {
  d: DIGITS,
  D: complement(DIGITS),
  w: WORD,
  W: complement(WORD),
  s: SPACE,
  S: complement(SPACE),
}

const CONTROLS: Readonly<Record<string, number>> = { t: 9, n: 10, v: 11, f: 12, r: 13, b: 8 }

/** Groups nest at most so deep: the parser is recursive. */
const MAX_DEPTH = 100

function parseRegex(pattern: string, place: string): Node {
  try {
    new RegExp(pattern, 'u')
  } catch (cause) {
    throw badGrammar(place, (cause as Error).message)
  }
  return new Parser(pattern, place).whole()
}

/** Of a pattern that JavaScript accepts, so that each bracket is closed. */
class Parser {
  readonly #pattern: string
  readonly #place: string
  #at = 0
  #depth = 0

  constructor(pattern: string, place: string) {
    this.#pattern = pattern
    this.#place = place
  }

  whole(): Node {
    if (++this.#depth > MAX_DEPTH) throw this.#unsupported(`more than ${MAX_DEPTH} nested groups`)
    const options = [this.#sequence()]
    while (this.#eat('|')) options.push(this.#sequence())
    this.#depth--
    return options.length === 1 ? options[0]! : { kind: 'either', options }
  }

  #sequence(): Node {
    const parts: Node[] = []
    while (this.#at < this.#pattern.length && !'|)'.includes(this.#pattern[this.#at]!))
      parts.push(this.#quantified(this.#atom()))
    return { kind: 'sequence', parts }
  }

  #quantified(body: Node): Node {
    const [all, sign, low, comma, high] = this.#match(/([*+?])|\{(\d+)(,?)(\d*)\}/y) ?? []
    if (all === undefined) return body
    // Lazy or not, the same texts match.
    this.#eat('?')
    if (sign !== undefined)
      return {
        kind: 'repeat',
        body,
        least: sign === '+' ? 1 : 0,
        most: sign === '?' ? 1 : Infinity,
      }
    const most = comma === '' ? Number(low) : high === '' ? Infinity : Number(high)
    return { kind: 'repeat', body, least: Number(low), most }
  }

  #atom(): Node {
    if (this.#eat('^')) return { kind: 'begin' }
    if (this.#eat('$')) return { kind: 'end' }
    if (this.#eat('.')) return { kind: 'characters', ranges: NO_LINE_END }
    if (this.#eat('(')) return this.#group()
    if (this.#eat('[')) return { kind: 'characters', ranges: this.#class() }
    return { kind: 'characters', ranges: union(this.#character(false)) }
  }

  #group(): Node {
    if (this.#eat('?') && !this.#match(/:|<[^=!>][^>]*>/y))
      throw this.#unsupported(`(?${this.#pattern[this.#at]}`)
    const node = this.whole()
    this.#eat(')')
    return node
  }

  #class(): readonly Range[] {
    const isNegated = this.#eat('^')
    const ranges: Range[] = []
    while (!this.#eat(']')) {
      const first = this.#character(true)
      ranges.push(...first)
      if (this.#pattern[this.#at] !== '-' || this.#pattern[this.#at + 1] === ']') continue
      this.#at++
      ranges.push([first[0]![0], this.#character(true)[0]![1]])
    }
    return isNegated ? complement(ranges) : union(ranges)
  }

  /** Of a class, or one code, which may be a surrogate's. */
  #character(inClass: boolean): readonly Range[] {
    if (this.#eat('\\')) return this.#escape(inClass)
    const code = this.#pattern.codePointAt(this.#at)!
    this.#at += code > 0xffff ? 2 : 1
    return [single(code)]
  }

  #escape(inClass: boolean): readonly Range[] {
    const property = this.#match(/[pP]\{[^}]*\}/y)
    if (property) return charactersWith(`\\${property[0]}`)
    const letter = this.#pattern[this.#at++]!
    if (Object.hasOwn(CLASSES, letter)) return CLASSES[letter]!
    if (letter === 'b' && !inClass) throw this.#unsupported('\\b')
    if (/[Bk1-9]/.test(letter)) throw this.#unsupported(`\\${letter}`)
    const code = this.#escapedCode(letter)
    return [single(code)]
  }

  #escapedCode(letter: string): number {
    if (Object.hasOwn(CONTROLS, letter)) return CONTROLS[letter]!
    if (letter === '0') return 0
    if (letter === 'c') return this.#pattern.charCodeAt(this.#at++) % 32
    if (letter === 'x') return Number.parseInt(this.#match(/[\da-fA-F]{2}/y)![0], 16)
    if (letter !== 'u') return letter.codePointAt(0)!
    const [, braced, high, low] = this.#match(
      /\{([\da-fA-F]+)\}|([\da-fA-F]{4})(?:\\u([dD][c-fC-F][\da-fA-F]{2}))?/y,
    )!
    const first = Number.parseInt(braced ?? high!, 16)
    if (low === undefined) return first
    const isPair = first >= 0xd800 && first <= 0xdbff
    if (!isPair) this.#at -= low.length + 2
    return isPair ? (first - 0xd800) * 0x400 + Number.parseInt(low, 16) - 0xdc00 + 0x10000 : first
  }

  #eat(character: string): boolean {
    const isThere = this.#pattern[this.#at] === character
    if (isThere) this.#at++
    return isThere
  }

  #match(sticky: RegExp): RegExpExecArray | undefined {
    sticky.lastIndex = this.#at
    const found = sticky.exec(this.#pattern)
    if (!found) return undefined
    this.#at += found[0].length
    return found
  }

  #unsupported(what: string): MoeppError {
    return badGrammar(this.#place, `${what} is not supported in a pattern`)
  }
}

const withProperty = new Map<string, readonly Range[]>()

/** The characters that a class such as \p{Lu} matches: JavaScript is asked for each. */
function charactersWith(source: string): readonly Range[] {
  const ranges = withProperty.get(source) ?? union(runs(codesOf(source)))
  withProperty.set(source, ranges)
  return ranges
}

function* codesOf(source: string): Generator<number, void> {
  const regex = new RegExp(`^${source}$`, 'u')
  for (let code = 0; code <= 0x10ffff; code++)
    if (regex.test(String.fromCodePoint(code))) yield code
}

/** A pattern's characters as they are. */
export const PLAIN: Alphabet = ranges => characters(...ranges)
