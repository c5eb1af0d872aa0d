/** Runs `moepp` as its users do: as a process of its own. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { root } from '../support/golden.js'

export const BOOKS = join(root, 'models', 'books-7m')
export const MAIN = join(root, 'dist', 'cli', 'main.js')

export interface CliResult {
  /** undefined after a signal. */
  readonly code: number | undefined
  readonly stdout: string
  readonly stderr: string
}

/**
 * Starts what `npm run build` made, which `npm test` has brought up to date: compiling at each
 * start would take seconds. Without tap's set-up of child processes, which would act on signals.
 */
export function startCli(
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
): ChildProcessWithoutNullStreams {
  return spawn(process.execPath, [MAIN, ...args], {
    cwd: root,
    env: { ...process.env, NODE_OPTIONS: '', ...env },
  })
}

export async function runCli(
  args: readonly string[],
  { input = '', env = {} }: { input?: string; env?: NodeJS.ProcessEnv } = {},
): Promise<CliResult> {
  const child = startCli(args, env)
  child.stdin.end(input)
  return finish(child)
}

/** All of the output, and how it ended. */
export async function finish(child: ChildProcessWithoutNullStreams): Promise<CliResult> {
  const exit = once(child, 'exit') as Promise<[number | null]>
  const [stdout, stderr, [code]] = await Promise.all([text(child.stdout), text(child.stderr), exit])
  return { code: code ?? undefined, stdout, stderr }
}
