/** What a failure looks like on the terminal, and the exit code that goes with it. */

import { CommanderError } from 'commander'
import { MoeppError } from '../errors.js'

/** A wrong option or argument, found after the command line was parsed. */
export class UsageError extends Error {}

const EXIT_FAILURE = 1
const EXIT_USAGE = 2

/**
 * Runs a check of options that speaks of `topK`; what it throws becomes a UsageError that speaks of
 * `--top-k`.
 */
export function checkUsage<T>(check: () => T): T {
  try {
    return check()
  } catch (error) {
    if (!(error instanceof TypeError || error instanceof RangeError)) throw error
    throw new UsageError(error.message.replace(/^[a-z][A-Za-z]*(?=[:[])/, flagOf), { cause: error })
  }
}

/** `topK` is `--top-k`. */
export function flagOf(option: string): string {
  return `--${option.replaceAll(/[A-Z]/g, letter => `-${letter.toLowerCase()}`)}`
}

/** Prints one line on standard error, and the stack if `verbose`. Returns the exit code. */
export function reportError(error: unknown, verbose: boolean): number {
  if (error instanceof CommanderError) {
    // commander has printed help, version or message already.
    return error.exitCode === 0 ? 0 : EXIT_USAGE
  }
  process.stderr.write(`moepp: ${describe(error)}\n`)
  if (verbose && error instanceof Error) process.stderr.write(`${stackOf(error)}\n`)
  return error instanceof UsageError ? EXIT_USAGE : EXIT_FAILURE
}

function describe(error: unknown): string {
  if (error instanceof MoeppError) {
    const place =
      error.op === undefined || error.message.startsWith(error.op) ? '' : ` (in ${error.op})`
    return `${error.code}: ${error.message}${place}`
  }
  return error instanceof Error ? error.message : String(error)
}

function stackOf(error: Error): string {
  const stack = error.stack ?? error.message
  return error.cause instanceof Error ? `${stack}\ncaused by ${stackOf(error.cause)}` : stack
}
