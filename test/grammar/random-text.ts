/** Random texts of a grammar, straight from its expressions. */
import type { Expression, Rule } from '../../lib/grammar/expression.js'

/** Deep rules take the alternative that ends soonest. */
const DEEP = 12

export function randomText(root: Expression, next: () => number): string {
  const heights = new Map<Rule, number>()
  const pick = (count: number) => Math.floor(next() * count)

  function height(expression: Expression): number {
    switch (expression.kind) {
      case 'sequence':
        return Math.max(0, ...expression.parts.map(height))
      case 'either':
        return Math.min(...expression.options.map(height))
      case 'repeat':
        return expression.least === 0 ? 0 : height(expression.body)
      case 'rule':
        return ruleHeight(expression.rule)
      default:
        return 0
    }
  }

  function ruleHeight(rule: Rule): number {
    const known = heights.get(rule)
    if (known !== undefined) return known
    heights.set(rule, Infinity)
    const own = 1 + height(rule.body!)
    // Infinity within a cycle is no final answer.
    if (own === Infinity) heights.delete(rule)
    else heights.set(rule, own)
    return own
  }

  function option(all: readonly Expression[], depth: number): Expression {
    const options = all.filter(({ kind }) => kind !== 'marker')
    if (depth < DEEP) return options[pick(options.length)]!
    const least = Math.min(...options.map(height))
    return options.find(each => height(each) === least)!
  }

  function write(expression: Expression, depth: number): string {
    switch (expression.kind) {
      case 'text':
        return expression.text
      case 'characters': {
        const [from, to] = expression.ranges[pick(expression.ranges.length)]!
        const end = next() < 0.5 ? Math.min(to, from + 3) : to
        return String.fromCodePoint(from + pick(end - from + 1))
      }
      case 'sequence':
        return expression.parts.map(part => write(part, depth)).join('')
      case 'either':
        return write(option(expression.options, depth), depth)
      case 'repeat': {
        const { body, least, most } = expression
        const more = Math.min(most - least, depth < DEEP ? 6 : 0)
        const isFull = most < 40 && next() < 0.2 && depth < DEEP
        const count = isFull ? most : least + pick(more + 1)
        return Array.from({ length: count }, () => write(body, depth)).join('')
      }
      case 'rule':
        return write(expression.rule.body!, depth + 1)
      case 'marker':
        throw new Error('a marker is no text')
    }
  }
  return write(root, 0)
}

/** A text as a name of a test: the protocol of tests has lines of its own. */
export function shown(text: string): string {
  const escaped = (unit: string) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`
  return JSON.stringify(text).replace(/[^ -~]/g, escaped)
}
