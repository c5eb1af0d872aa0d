/** Grammars as values: expressions over characters and rules, printed as XGrammar's EBNF. */

/** Code points from the first to the last, both included. */
export type Range = readonly [number, number]

export type Expression =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'characters'; readonly ranges: readonly Range[] }
  | { readonly kind: 'sequence'; readonly parts: readonly Expression[] }
  | { readonly kind: 'either'; readonly options: readonly Expression[] }
  | {
      readonly kind: 'repeat'
      readonly body: Expression
      readonly least: number
      readonly most: number
    }
  | { readonly kind: 'rule'; readonly rule: Rule }
  /** No text: shows that a string of this length at most goes on here. See string-lengths.ts. */
  | { readonly kind: 'marker'; readonly most: number }

/** A named expression, which may refer to itself. */
export interface Rule {
  readonly name: string
  /** The part of the caller's grammar that it stands for. */
  readonly place: string
  body: Expression | undefined
}

/** A whole text, and the rules that it refers to. */
export interface ParsedGrammar {
  readonly root: Expression
  readonly rules: Rules
}

/** Every code point but the surrogates, which no UTF-8 text holds. */
export const ALL_CHARACTERS: readonly Range[] = [
  [0, 0xd7ff],
  [0xe000, 0x10ffff],
]

export const DIGITS: readonly Range[] = [[0x30, 0x39]]
/** Letters, digits and _ of ASCII. */
export const WORD: readonly Range[] = [...DIGITS, [0x41, 0x5a], [0x5f, 0x5f], [0x61, 0x7a]]

export const text = (text: string): Expression => ({ kind: 'text', text })
export const sequence = (...parts: Expression[]): Expression => ({ kind: 'sequence', parts })
export const characters = (...ranges: Range[]): Expression => ({ kind: 'characters', ranges })
export const optional = (body: Expression): Expression => repeat(body, 0, 1)
export const EMPTY = text('')

export function either(...options: Expression[]): Expression {
  return options.length === 1 ? options[0]! : { kind: 'either', options }
}

export function repeat(body: Expression, least: number, most = Infinity): Expression {
  return { kind: 'repeat', body, least, most }
}

export function digits(from: number, to: number): Expression {
  return characters([0x30 + from, 0x30 + to])
}

export function single(code: number): Range {
  return [code, code]
}

/** The ranges of codes that come in their order. */
export function runs(codes: Iterable<number>): Range[] {
  const found: [number, number][] = []
  for (const code of codes) {
    const last = found.at(-1)
    if (last?.[1] === code - 1) last[1] = code
    else found.push([code, code])
  }
  return found
}

/** Sorted, without overlaps, and without surrogates. */
export function union(ranges: readonly Range[]): Range[] {
  const sorted = ranges.flatMap(withoutSurrogates).sort(([a], [b]) => a - b)
  const joined: [number, number][] = []
  for (const [from, to] of sorted) {
    const last = joined.at(-1)
    if (last && from <= last[1] + 1) last[1] = Math.max(last[1], to)
    else joined.push([from, to])
  }
  return joined
}

function withoutSurrogates([from, to]: Range): Range[] {
  const below: Range = [from, Math.min(to, 0xd7ff)]
  const above: Range = [Math.max(from, 0xe000), to]
  return [below, above].filter(([first, last]) => first <= last)
}

/** All characters but those. */
export function complement(ranges: readonly Range[]): Range[] {
  const rest: Range[] = []
  let next = 0
  for (const [from, to] of union(ranges)) {
    rest.push([next, from - 1])
    next = to + 1
  }
  rest.push([next, 0x10ffff])
  return union(rest.filter(([from, to]) => from <= to))
}

export function intersection(a: readonly Range[], b: readonly Range[]): Range[] {
  return complement([...complement(a), ...complement(b)])
}

/** A set of rules that is being made. */
export class Rules {
  readonly #rules: Rule[] = []

  /** A rule without a body, which must be given later. */
  reserve(place: string): Rule {
    const rule: Rule = { name: `r${this.#rules.length}`, place, body: undefined }
    this.#rules.push(rule)
    return rule
  }

  define(place: string, body: Expression): Expression {
    const rule = this.reserve(place)
    rule.body = body
    return { kind: 'rule', rule }
  }

  /** All of them. */
  get all(): readonly Rule[] {
    return this.#rules
  }

  /**
   * The place of something from which no text can come: it has no characters, or needs another of
   * its kind without end.
   */
  endless(root: Expression): string | undefined {
    const known = new Set<Rule>()
    for (let before = -1; before < known.size; ) {
      before = known.size
      for (const rule of this.#rules) if (canEnd(rule.body!, known)) known.add(rule)
    }
    const endless = this.#rules.find(rule => !known.has(rule))
    return endless?.place ?? (canEnd(root, known) ? undefined : '')
  }
}

function canEnd(expression: Expression, known: ReadonlySet<Rule>): boolean {
  switch (expression.kind) {
    case 'text':
      return true
    case 'characters':
      return expression.ranges.length > 0
    case 'sequence':
      return expression.parts.every(part => canEnd(part, known))
    case 'either':
      return expression.options.some(option => canEnd(option, known))
    case 'repeat':
      return expression.least === 0 || canEnd(expression.body, known)
    case 'rule':
      return known.has(expression.rule)
    case 'marker':
      return false
  }
}
