/**
 * EBNF as XGrammar has it, read into expressions. So its errors have a place, and all grammars go
 * the same way.
 *
 *     root ::= greeting ("," [a-z]{1,8})* "."   # the whole text
 *     greeting ::= "hello" | "good " ("day" | "night")?
 */
import { show } from '../base/json.js'
import type { MoeppError } from '../errors.js'
import { badGrammar } from './errors.js'
import {
  characters,
  complement,
  DIGITS,
  EMPTY,
  type Expression,
  either,
  type ParsedGrammar,
  type Range,
  type Rule,
  Rules,
  repeat,
  sequence,
  text,
  union,
  WORD,
} from './expression.js'

/** Groups nest at most so deep: the parser is recursive. */
const MAX_DEPTH = 100

const ESCAPES: Readonly<Record<string, string>> = {
  n: '\n',
  r: '\r',
  t: '\t',
  f: '\f',
  v: '\v',
  b: '\b',
  a: '\x07',
  e: '\x1b',
  0: '\0',
}

/** Shorthands within a class. */
const CLASSES: Readonly<Record<string, readonly Range[]>> = {
  d: DIGITS,
  w: WORD,
  s: [
    [0x09, 0x0d],
    [0x20, 0x20],
  ],
}

/** @throws MoeppError ERR_BAD_GRAMMAR with line and column */
export function parseEbnf(source: string, place: string): ParsedGrammar {
  return new EbnfParser(source, place).grammar()
}

class EbnfParser {
  readonly #source: string
  readonly #place: string
  readonly #rules = new Rules()
  readonly #named = new Map<string, Rule>()
  /** First use of rules that are not defined yet. */
  readonly #used = new Map<string, number>()
  #at = 0
  #depth = 0

  constructor(source: string, place: string) {
    this.#source = source
    this.#place = place
  }

  grammar(): ParsedGrammar {
    this.#space()
    while (this.#at < this.#source.length) this.#rule()
    for (const [name, at] of this.#used) {
      if (this.#named.get(name)!.body === undefined)
        throw this.#bad(`the rule ${show(name)} is not defined`, at)
    }
    const rule = this.#named.get('root')
    if (!rule) throw badGrammar(this.#place, 'there is no rule "root", which stands for the text')
    return { root: { kind: 'rule', rule }, rules: this.#rules }
  }

  #rule(): void {
    const at = this.#at
    const name = this.#name()
    if (name === undefined || !this.#eat('::=')) throw this.#bad('expected NAME ::= RULE', at)
    const rule = this.#ruleOf(name)
    if (rule.body !== undefined) throw this.#bad(`the rule ${show(name)} is defined twice`, at)
    rule.body = this.#choices()
  }

  #choices(): Expression {
    if (++this.#depth > MAX_DEPTH) throw this.#bad(`more than ${MAX_DEPTH} nested groups`)
    const options = [this.#sequence()]
    while (this.#eat('|')) options.push(this.#sequence())
    this.#depth--
    return either(...options)
  }

  #sequence(): Expression {
    const parts: Expression[] = []
    for (let part = this.#element(); part; part = this.#element()) parts.push(this.#counted(part))
    if (parts.length === 0) throw this.#bad('expected "text", [characters], a rule or a group')
    return sequence(...parts)
  }

  #element(): Expression | undefined {
    if (this.#source.startsWith('(=', this.#at))
      throw this.#bad('lookahead assertions are not supported')
    if (this.#eat('(')) {
      const inner = this.#choices()
      if (!this.#eat(')')) throw this.#bad('expected )')
      return inner
    }
    if (this.#source[this.#at] === '"') return this.#text()
    if (this.#source[this.#at] === '[') return this.#class()
    return this.#reference()
  }

  #reference(): Expression | undefined {
    const at = this.#at
    const name = this.#name()
    if (name === undefined) return undefined
    if (this.#source.startsWith('::=', this.#at)) {
      // The next rule begins.
      this.#at = at
      return undefined
    }
    if (!this.#used.has(name)) this.#used.set(name, at)
    return { kind: 'rule', rule: this.#ruleOf(name) }
  }

  #counted(body: Expression): Expression {
    let counted = body
    for (;;) {
      if (this.#eat('*')) counted = repeat(counted, 0)
      else if (this.#eat('+')) counted = repeat(counted, 1)
      else if (this.#eat('?')) counted = repeat(counted, 0, 1)
      else if (this.#source[this.#at] === '{') counted = this.#braces(counted)
      else return counted
    }
  }

  #braces(body: Expression): Expression {
    const at = this.#at
    const found = this.#match(/\{\s*(\d{1,9})\s*(,?)\s*(\d{0,9})\s*\}/y)
    if (!found) throw this.#bad('expected {n}, {n,} or {n,m}')
    const [, low, comma, high] = found
    const most = comma === '' ? Number(low) : high === '' ? Infinity : Number(high)
    if (Number(low) > most) throw this.#bad('a range that ends before it begins', at)
    return repeat(body, Number(low), most)
  }

  #text(): Expression {
    const at = this.#at++
    let value = ''
    while (this.#source[this.#at] !== '"') {
      if (this.#isLineEnd()) throw this.#bad('a text without its closing "', at)
      value += String.fromCodePoint(this.#character())
    }
    this.#at++
    this.#space()
    return value === '' ? EMPTY : text(value)
  }

  #class(): Expression {
    const at = this.#at++
    const isNegated = this.#source[this.#at] === '^'
    if (isNegated) this.#at++
    const ranges: Range[] = []
    while (this.#source[this.#at] !== ']') {
      if (this.#isLineEnd()) throw this.#bad('a class without its closing ]', at)
      ranges.push(...this.#range())
    }
    this.#at++
    this.#space()
    return characters(...(isNegated ? complement(ranges) : union(ranges)))
  }

  #range(): readonly Range[] {
    const [, letter = ''] = /\\([dwsDWS])/y.exec(this.#source.slice(this.#at, this.#at + 2)) ?? []
    if (letter !== '') {
      this.#at += 2
      const ranges = CLASSES[letter.toLowerCase()]!
      return letter === letter.toLowerCase() ? ranges : complement(ranges)
    }
    const at = this.#at
    const first = this.#character()
    const isRange = this.#source[this.#at] === '-' && this.#source[this.#at + 1] !== ']'
    if (!isRange) return [[first, first]]
    this.#at++
    const last = this.#character()
    if (last < first) throw this.#bad('a range that ends before it begins', at)
    return [[first, last]]
  }

  /** A code point, which may be escaped. */
  #character(): number {
    const at = this.#at
    const hex = this.#match(/\\(?:x([\da-fA-F]{2})|u([\da-fA-F]{4})|U([\da-fA-F]{8}))/y, false)
    const code = hex ? Number.parseInt(hex[1] ?? hex[2] ?? hex[3]!, 16) : this.#plain()
    const isText = code <= 0x10ffff && !(code >= 0xd800 && code <= 0xdfff)
    if (!isText) throw this.#bad('a code that is no character', at)
    return code
  }

  #plain(): number {
    if (this.#source[this.#at] === '\\') {
      const letter = this.#source[++this.#at] ?? ''
      if (!/[nrtfvbae0]|[^\w\s]/.test(letter)) throw this.#bad(`an unknown escape \\${letter}`)
      this.#at++
      return (ESCAPES[letter] ?? letter).codePointAt(0)!
    }
    const code = this.#source.codePointAt(this.#at)!
    this.#at += code > 0xffff ? 2 : 1
    return code
  }

  #isLineEnd(): boolean {
    return /^[\r\n]?$/.test(this.#source[this.#at] ?? '')
  }

  #ruleOf(name: string): Rule {
    const rule = this.#named.get(name) ?? this.#rules.reserve(`${this.#place}: ${name}`)
    this.#named.set(name, rule)
    return rule
  }

  #name(): string | undefined {
    return this.#match(/[a-zA-Z_.-][\w.-]*/y)?.[0]
  }

  #eat(token: string): boolean {
    if (!this.#source.startsWith(token, this.#at)) return false
    this.#at += token.length
    this.#space()
    return true
  }

  #match(sticky: RegExp, skipsSpace = true): RegExpExecArray | undefined {
    sticky.lastIndex = this.#at
    const found = sticky.exec(this.#source)
    if (!found) return undefined
    this.#at += found[0].length
    if (skipsSpace) this.#space()
    return found
  }

  /** Space, line ends and comments. */
  #space(): void {
    const sticky = /(?:[ \t\r\n]|#[^\r\n]*)*/y
    sticky.lastIndex = this.#at
    this.#at += sticky.exec(this.#source)![0].length
  }

  #bad(problem: string, at = this.#at): MoeppError {
    const before = this.#source.slice(0, at).split(/\r\n|\n|\r/)
    const place = `line ${before.length}, column ${before.at(-1)!.length + 1}`
    return badGrammar(this.#place, `${place}: ${problem}`)
  }
}
