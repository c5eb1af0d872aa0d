/** Prints errors on the terminal and chooses the exit code. */

import { type Command, CommanderError, type Option } from 'commander'
import { MoeppError } from '../errors.js'
import type { Terminal } from './terminal.js'
import { usageMessage } from './usage.js'

/** A wrong option or argument, found after the command line was parsed. */
export class UsageError extends Error {}

const EXIT_FAILURE = 1
const EXIT_USAGE = 2

/**
 * Runs a check of options that speaks of `topK`. Its TypeError or RangeError becomes a UsageError
 * that speaks of `--top-k`.
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

interface Report {
  readonly terminal: Terminal
  readonly program: Command
  readonly args: readonly string[]
  /** Show the stack. */
  readonly verbose: boolean
}

/** Prints the error on standard error. Returns the exit code. */
export function reportError(error: unknown, { terminal, program, args, verbose }: Report): number {
  if (error instanceof CommanderError) {
    // Help and version have been printed.
    if (error.exitCode === 0) return 0
    if (error.code !== 'commander.help') terminal.error(usageMessage(error, program, args))
    return EXIT_USAGE
  }
  const { options = [] } = program.commands.find(c => c.name() === program.args[0]) ?? {}
  terminal.error(describe(error, options))
  if (verbose && error instanceof Error) terminal.stderr.write(`${stackOf(error)}\n`)
  return error instanceof UsageError ? EXIT_USAGE : EXIT_FAILURE
}

/** The message of an error; `options` are those of the command. */
export function describe(error: unknown, options: readonly Option[] = []): string {
  if (error instanceof MoeppError) {
    const place =
      error.op === undefined || error.message.startsWith(error.op) ? '' : ` (in ${error.op})`
    const { code, message } = error
    return `${code}: ${code === 'ERR_OUT_OF_MEMORY' ? withFlags(message, options) : message}${place}`
  }
  return error instanceof Error ? error.message : String(error)
}

/** `dtype: 'int8'` becomes `--dtype int8` if the command has that option. */
function withFlags(message: string, options: readonly Option[]): string {
  const remedy = /\b(kvCacheTokens|dtype|memoryCheck): '?(\w+)'?/g
  return message.replaceAll(remedy, (text: string, name: string, value: string) => {
    const option = options.find(o => o.attributeName() === name)
    if (!option?.long) return text
    return option.negate ? option.long : `${option.long} ${value}`
  })
}

function stackOf(error: Error): string {
  const stack = error.stack ?? error.message
  return error.cause instanceof Error ? `${stack}\ncaused by ${stackOf(error.cause)}` : stack
}
