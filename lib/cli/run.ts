/** The command line `moepp`: commands and options. Each command's work is in a file of its own. */

import { Command } from 'commander'
import { packageVersion } from '../addon/addon-file.js'
import { benchCommand } from './bench.js'
import { buildMpiCommand } from './build-mpi.js'
import { chatCommand } from './chat.js'
import { convertCommand } from './convert.js'
import { demoCommand } from './demo.js'
import { doctorCommand } from './doctor.js'
import { reportError } from './errors.js'
import { evalCommand } from './eval.js'
import { generateCommand } from './generate.js'
import { configureHelp } from './help.js'
import { inspectCommand } from './inspect.js'
import { placementCommand } from './placement.js'
import { routingCommand } from './routing.js'
import { serveCommand } from './serve.js'
import { Terminal } from './terminal.js'
import { Warnings } from './warnings.js'

/**
 * Runs one command line and returns the exit code: 0, 1 for a failure, 2 for a wrong command line,
 * 128 + n after a signal.
 */
export async function run(
  args: readonly string[],
  terminal = Terminal.ofProcess(),
): Promise<number> {
  using _warnings = new Warnings(terminal)
  let exitCode = 0
  const program = createProgram(terminal, code => {
    exitCode = code
  })
  const report = (error: unknown) => {
    const verbose = program.opts().verbose === true || Boolean(process.env.MOEPP_DEBUG)
    return reportError(error, { terminal, program, args, verbose })
  }
  try {
    await program.parseAsync(args, { from: 'user' })
  } catch (error) {
    exitCode = report(error)
  }
  try {
    await terminal.finish()
  } catch (error) {
    exitCode ||= report(error)
  }
  return exitCode
}

function createProgram(terminal: Terminal, setExitCode: (code: number) => void): Command {
  const program = new Command('moepp')
    .description('Runs MoE++ language models (arXiv 2410.07348).')
    .version(packageVersion(), '-V, --version', 'print the version')
    .option('--verbose', 'show the stack of errors; so does MOEPP_DEBUG=1')
    .addHelpText('after', EXAMPLES)
    .exitOverride()
  configureHelp(program, terminal)
  const commands = [
    demoCommand,
    generateCommand,
    chatCommand,
    serveCommand,
    inspectCommand,
    convertCommand,
    benchCommand,
    evalCommand,
    routingCommand,
    placementCommand,
    buildMpiCommand,
    doctorCommand,
  ]
  for (const create of commands) {
    const command = create(terminal, setExitCode)
    program.addCommand(command.copyInheritedSettings(program))
  }
  return program
}

const EXAMPLES = `
Examples:
  $ moepp generate --model npm:moepp-books-7m --temperature 0.8 "The old man"
  $ moepp chat --model ./Qwen3-30B-A3B
  $ moepp serve --model ./Qwen3-30B-A3B
  $ moepp inspect hf:Chat-UniVi/MoE-Plus-Plus-7B
  $ moepp convert hf:Chat-UniVi/MoE-Plus-Plus-7B ./moepp-7b
  $ moepp eval --model ./moepp-7b --tasks dev.jsonl
  $ moepp routing --model ./moepp-7b book.txt --out report.html
  $ moepp doctor
`
