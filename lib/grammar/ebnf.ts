/**
 * Expressions as XGrammar's EBNF, in the form that it handles fast.
 *
 * XGrammar finds ahead, for each place in a rule, the tokens that fit as long as the rule lasts. A
 * token that goes beyond the rule's end is tried anew at each step. So a repetition is a rule that
 * ends with itself, `r ::= rest | a r | b r`, and a bounded one is a chain of them. With a
 * vocabulary of 151,669 a string takes 0.3 ms a token so, and 80 ms as `(a | b)*` (2026-11).
 */
import { badGrammar } from './errors.js'
import type { Expression, ParsedGrammar, Range, Rules } from './expression.js'
import { marker, spelled } from './spelling.js'

/** Each repetition is a rule, which takes up to 50 ms to compile. */
const MOST_REPETITIONS = 1000

/**
 * Characters of a body that a counted repetition writes each time: a million take 1.4 s to compile.
 * A longer one, as 200 times \p{L} with its 100,000, names its body, though steps then take 80 ms
 * with a vocabulary of 150,000 (2026-11).
 */
const MOST_WRITTEN = 2_500_000

const NOTHING = '""'

export interface Printed {
  readonly ebnf: string
  /** The greatest lengths of strings that the grammar does not count itself. */
  readonly limits: readonly number[]
}

/**
 * `place` names the grammar in errors.
 * @throws MoeppError ERR_BAD_GRAMMAR if a rule has no text that ends
 */
export function ebnfOf({ root, rules }: ParsedGrammar, place: string): Printed {
  const endless = rules.endless(root)
  if (endless !== undefined)
    throw badGrammar(endless || place, 'no text can end, or none is allowed')
  const printer = new Printer(place)
  return { ebnf: printer.print(root, rules), limits: [...printer.limits] }
}

class Printer {
  readonly limits = new Set<number>()
  readonly #place: string
  readonly #lines: string[] = []
  #made = 0

  constructor(place: string) {
    this.#place = place
  }

  print(root: Expression, rules: Rules): string {
    const first = `root ::= ${this.#of(spelled(root))}`
    for (const { name, body } of rules.all)
      this.#lines.push(`${name} ::= ${this.#of(spelled(body!))}`)
    return [first, ...this.#lines].join('\n')
  }

  #of(expression: Expression): string {
    switch (expression.kind) {
      case 'text':
        return `"${escaped(expression.text)}"`
      case 'characters':
        return `[${expression.ranges.map(printedRange).join('')}]`
      case 'either':
        return `(${expression.options.map(option => this.#of(option)).join(' | ')})`
      case 'sequence':
      case 'repeat':
        return this.#sequence(partsOf(expression))
      case 'rule':
        return expression.rule.name
      case 'marker':
        this.limits.add(expression.most)
        return `"${escaped(marker(expression.most))}"`
    }
  }

  #sequence(parts: readonly Expression[]): string {
    const at = parts.findIndex(({ kind }) => kind === 'repeat')
    if (at === -1) return parts.map(part => this.#of(part)).join(' ') || NOTHING
    const before = parts.slice(0, at).map(part => this.#of(part))
    return [...before, this.#repeat(parts[at] as Repeat, parts.slice(at + 1))].join(' ')
  }

  /** The repetition and all that follows it. */
  #repeat({ body, least, most }: Repeat, following: readonly Expression[]): string {
    const times = most === Infinity ? least : most
    if (times > MOST_REPETITIONS)
      throw badGrammar(this.#place, `repeats more than ${MOST_REPETITIONS} times are not supported`)
    const rest = this.#named(following)
    const all = alternatives(body).map(option => this.#of(option))
    const length = all.reduce((sum, option) => sum + option.length, 0)
    const options = length * times > MOST_WRITTEN ? [this.#rule(() => all)] : all
    const step = (next: string) =>
      options.map(option => (next === NOTHING ? option : `${option} ${next}`))
    let next = rest
    if (most === Infinity) next = this.#rule(name => [rest, ...step(name)])
    for (let left = times; left > 0; left--) {
      const after = next
      const mayEnd = most !== Infinity && left > least
      next = this.#rule(() => [...(mayEnd ? [rest] : []), ...step(after)])
    }
    return next
  }

  /** A short form of what follows, since it is written several times. */
  #named(following: readonly Expression[]): string {
    const [first] = following
    if (following.length === 0) return NOTHING
    if (following.length === 1 && (first!.kind === 'text' || first!.kind === 'rule'))
      return this.#of(first!)
    return this.#rule(() => [this.#sequence(following)])
  }

  #rule(optionsOf: (name: string) => readonly string[]): string {
    const name = `s${this.#made++}`
    this.#lines.push(`${name} ::= ${optionsOf(name).join(' | ')}`)
    return name
  }
}

type Repeat = Extract<Expression, { kind: 'repeat' }>

/** Alternatives of alternatives are alternatives. */
function alternatives(expression: Expression): readonly Expression[] {
  return expression.kind === 'either' ? expression.options.flatMap(alternatives) : [expression]
}

/** Parts of parts are parts. Empty texts are left out. */
function partsOf(expression: Expression): readonly Expression[] {
  if (expression.kind === 'sequence') return expression.parts.flatMap(partsOf)
  return expression.kind === 'text' && expression.text === '' ? [] : [expression]
}

function printedRange([from, to]: Range): string {
  return from === to ? codePoint(from) : `${codePoint(from)}-${codePoint(to)}`
}

function escaped(value: string): string {
  return Array.from(value, character =>
    /[a-zA-Z0-9 {}:,[\]]/.test(character) ? character : codePoint(character.charCodeAt(0)),
  ).join('')
}

/** Of ASCII, with 8 digits: XGrammar takes those behind a shorter code for more of it. */
function codePoint(code: number): string {
  const character = String.fromCharCode(code)
  return /[a-zA-Z0-9]/.test(character) ? character : `\\U${code.toString(16).padStart(8, '0')}`
}
