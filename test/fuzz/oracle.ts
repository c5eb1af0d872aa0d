/** Judges the outcome of an input. */

import { MoeppError, type MoeppErrorCode } from '../../lib/errors.js'

/** Something that no input may bring about. */
export class Finding extends Error {}

/** The outcome of an input: `read`, or an error's code. */
export interface Outcome {
  readonly kind: string
  /** The same for inputs that came to the same place. */
  readonly place: string
  /** The fault, if there is one. */
  readonly finding?: string
}

/** Errors that say that a file is bad. */
export const FILE_CODES: ReadonlySet<MoeppErrorCode> = new Set([
  'ERR_NOT_FOUND',
  'ERR_BAD_FILE',
  'ERR_UNSAFE_FILE',
  'ERR_BAD_CONFIG',
  'ERR_BAD_WEIGHTS',
  'ERR_BAD_TOKENIZER',
])

/** Of CPU time. */
const MOST_MS = 2000
/** Asking for the CPU time takes longer than most inputs. */
const SAMPLE_MS = 500
let sampled = { at: 0, cpu: process.cpuUsage() }
/** Terminals obey control characters; a message holds none but line feeds and tabs. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const CONTROL = /[\0-\x08\x0b-\x1f\x7f-\x9f]/
const MOST_MESSAGE = 20_000

/** Runs one input and judges what comes of it. */
export async function judge(
  run: () => Promise<unknown>,
  codes: ReadonlySet<MoeppErrorCode>,
): Promise<Outcome> {
  const started = performance.now()
  if (started - sampled.at > SAMPLE_MS) sampled = { at: started, cpu: process.cpuUsage() }
  let outcome: Outcome = { kind: 'read', place: 'read' }
  try {
    await run()
  } catch (error) {
    outcome = outcomeOf(error, codes)
  }
  const polluted = pollution()
  if (polluted) return { ...outcome, finding: `prototype polluted: ${polluted}` }
  if (performance.now() - started > MOST_MS) {
    const { user, system } = process.cpuUsage(sampled.cpu)
    if (user + system > (MOST_MS + SAMPLE_MS) * 1000)
      return { ...outcome, finding: `took more than ${MOST_MS} ms` }
  }
  return outcome
}

function outcomeOf(error: unknown, codes: ReadonlySet<MoeppErrorCode>): Outcome {
  if (error instanceof Finding)
    return { kind: 'finding', place: error.message, finding: error.message }
  if (!(error instanceof MoeppError)) {
    const finding =
      error instanceof Error
        ? `${error.name}: ${error.message}${frame(error)}`
        : `threw ${String(error)}`
    return { kind: 'untyped', place: placeOf(finding), finding }
  }
  const { code, message } = error
  const outcome = { kind: code, place: placeOf(`${code} ${message}`) }
  if (!codes.has(code))
    return { ...outcome, finding: `unexpected ${code}: ${message}${frame(error)}` }
  if (CONTROL.test(message))
    return {
      ...outcome,
      finding: `control characters in the message: ${JSON.stringify(message)}${frame(error)}`,
    }
  if (message.length > MOST_MESSAGE)
    return {
      ...outcome,
      finding: `a message of ${message.length} characters: ${message.slice(0, 200)}${frame(error)}`,
    }
  return outcome
}

/** The first line of this project in the stack. */
function frame(error: Error): string {
  const line = error.stack
    ?.split('\n')
    .find(text => /[/\\](lib|dist)[/\\]/.test(text) && !text.includes('node_modules'))
  return line
    ? ` (${line
        .trim()
        .replace(/^at /, '')
        .replace(/\(?file:.*?[/\\](lib|dist)[/\\]/, '($1/')})`
    : ''
}

/** A message without what the input wrote into it. */
export function placeOf(message: string): string {
  return message
    .slice(0, 400)
    .replace(/"(?:[^"\\]|\\.)*"?/g, '""')
    .replace(/0x[0-9a-f]+|[0-9a-f]{40,}|-?[\d.]+(e[+-]?\d+)?/gi, '#')
    .replace(/\[[^\]]*\]/g, '[]')
    .slice(0, 160)
}

const PROTOTYPES = { Object, Array, Function, String, Number, Map, Set, Buffer, Promise, Error }
const known = Object.entries(PROTOTYPES).map(
  ([name, { prototype }]) =>
    [name, prototype as object, Reflect.ownKeys(prototype).length] as const,
)

/** The prototype that has another number of properties than at the start. */
function pollution(): string | undefined {
  return known.find(([, prototype, count]) => Reflect.ownKeys(prototype).length !== count)?.[0]
}
