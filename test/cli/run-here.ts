/** Runs `moepp` in this process: quick, for tests that need no process of their own. */
import { PassThrough, Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { run } from '../../lib/cli/run.js'
import { type Streams, Terminal } from '../../lib/cli/terminal.js'
import type { CliResult } from './run-cli.js'

export interface Here {
  readonly input?: string | Readable
  /** Those that colours depend on. */
  readonly env?: NodeJS.ProcessEnv
  readonly columns?: number
  readonly isTerminal?: Streams['isTerminal']
}

export async function runHere(
  args: readonly string[],
  { input = '', env = {}, columns, isTerminal = { stdout: false, stderr: false } }: Here = {},
): Promise<CliResult> {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()]
  const stdin = typeof input === 'string' ? Readable.from([Buffer.from(input)]) : input
  const texts = Promise.all([text(stdout), text(stderr)])
  const code = await run(args, new Terminal({ stdin, stdout, stderr, columns, isTerminal }, env))
  stdout.end()
  stderr.end()
  const [out, err] = await texts
  return { code, stdout: out, stderr: err }
}
