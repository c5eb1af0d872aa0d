/** The command line `moepp`: commands and options. Each command's work is in a file of its own. */

import { Command } from 'commander'
import { packageVersion } from '../doctor.js'
import { benchCommand } from './bench.js'
import { convertCommand } from './convert.js'
import { demoCommand } from './demo.js'
import { doctorCommand } from './doctor.js'
import { reportError } from './errors.js'
import { generateCommand } from './generate.js'
import { inspectCommand } from './inspect.js'
import { Output } from './output.js'

/**
 * Runs one command line and returns the exit code: 0, 1 for a failure, 2 for a wrong command line,
 * 128 + n after a signal.
 */
export async function run(args: readonly string[]): Promise<number> {
  const output = new Output(process.stdout)
  const exit = { code: 0 }
  const program = createProgram(output, exit)
  try {
    await program.parseAsync(args, { from: 'user' })
    return exit.code
  } catch (error) {
    return reportError(error, program.opts().verbose === true || Boolean(process.env.MOEPP_DEBUG))
  }
}

function createProgram(output: Output, exit: { code: number }): Command {
  const program = new Command('moepp')
    .description('Runs MoE++ language models (arXiv 2410.07348).')
    .version(packageVersion(), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'show help')
    .helpCommand('help [command]', 'show help for a command')
    .option('--verbose', 'show the stack of errors; so does MOEPP_DEBUG=1')
    .addHelpText('after', EXAMPLES)
    .exitOverride()
    .configureHelp({ showGlobalOptions: true, helpWidth: helpWidth() })
    .configureOutput({
      outputError: (text, write) => write(text.replace(/^error: /, 'moepp: ')),
    })
  const commands = [
    demoCommand,
    generateCommand,
    inspectCommand,
    convertCommand,
    benchCommand,
    doctorCommand,
  ]
  for (const create of commands) {
    const command = create(output, code => {
      exit.code = code
    })
    program.addCommand(command.copyInheritedSettings(program))
  }
  return program
}

/** As wide as the terminal, but no wider than is good to read. */
function helpWidth(): number {
  return Math.min(process.stdout.columns ?? 100, 100)
}

const EXAMPLES = `
Examples:
  $ moepp generate --model models/books-7m --temperature 0.8 "The old man"
  $ moepp inspect Chat-UniVi/MoE-Plus-Plus-7B
  $ moepp convert Chat-UniVi/MoE-Plus-Plus-7B ./moepp-7b
  $ moepp doctor
`
