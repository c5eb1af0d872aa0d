// The command lines of the benches: node:util's parseArgs, and what the values may be. `--layers=2`
// and `--layers 2` are the same.
import { inspect, parseArgs } from 'node:util'

/** Kinds of values: the expected one in words, a check, and `parse`, which makes it of a text. */
export const text = { expected: 'a text', accepts: value => value !== '', parse: text => text }
export const count = {
  expected: 'an integer >= 1',
  accepts: value => Number.isSafeInteger(value) && value >= 1,
  parse: numberOf,
}
export const positive = {
  expected: 'a number > 0',
  accepts: value => Number.isFinite(value) && value > 0,
  parse: numberOf,
}
export const fraction = {
  expected: 'a number > 0 and <= 1',
  accepts: value => Number.isFinite(value) && value > 0 && value <= 1,
  parse: numberOf,
}
export const oneOf = values => ({
  expected: `one of ${values.join(', ')}`,
  accepts: value => values.includes(value),
  parse: text => text,
})
/** One or more of a kind, by commas. */
export const listOf = ({ expected, accepts, parse }) => ({
  expected: `${expected}, or several by commas`,
  accepts: values => values.every(accepts),
  parse: text => text.split(',').map(parse),
})
/** An option without a value. */
export const present = { type: 'boolean' }

/** A text that is no number stays a text, which no kind of number accepts. */
function numberOf(text) {
  return /^\d*\.?\d+$/.test(text) ? Number(text) : text
}

/**
 * The value, or a RangeError that names it, what was expected and, where it is another text, what
 * was given.
 */
export function check(name, value, { expected, accepts }, given = value) {
  if (accepts(value)) return value
  throw new RangeError(`${name}: expected ${expected}, got ${inspect(given)}`)
}

/**
 * The values of the options in `args`, whose kinds are `kinds`; the value of option `word` may
 * stand alone. `verify` throws a RangeError where they do not fit together. A fault ends the
 * program with one line and status 2.
 */
export function readArguments(args, kinds, word, verify = () => {}) {
  try {
    const values = parse(args, kinds, word)
    for (const [name, given] of Object.entries(values)) {
      if (kinds[name] !== present)
        values[name] = check(`--${name}`, kinds[name].parse(given), kinds[name], given)
    }
    verify(values)
    return values
  } catch (error) {
    console.error(error.message)
    process.exit(2)
  }
}

function parse(args, kinds, word) {
  try {
    const allowPositionals = word !== undefined
    const { values, positionals } = parseArgs({ args, options: optionsOf(kinds), allowPositionals })
    const words = [values[word] ?? [], positionals].flat()
    if (words.length > 0) values[word] = words.join(' ')
    return values
  } catch (error) {
    // The first sentence says what is wrong, the others how such a thing could be passed
    // nevertheless.
    const [what] = error.message.split(/\.\s/)
    const names = Object.keys(kinds).map(name => `--${name}`)
    throw new RangeError(`${what}; the options are ${names.join(', ')}`, { cause: error })
  }
}

function optionsOf(kinds) {
  return Object.fromEntries(
    Object.entries(kinds).map(([name, { type = 'string' }]) => [name, { type }]),
  )
}

/** The arguments that are options of `kinds`, with their values, and the others. */
export function splitArguments(args, kinds) {
  const { tokens } = parseArgs({ args, options: optionsOf(kinds), strict: false, tokens: true })
  const own = new Set()
  for (const { name, index, inlineValue } of tokens) {
    if (!Object.hasOwn(kinds, name ?? '')) continue
    own.add(index)
    if (inlineValue === false) own.add(index + 1)
  }
  return [args.filter((_, i) => own.has(i)), args.filter((_, i) => !own.has(i))]
}
