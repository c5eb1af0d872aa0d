/**
 * Processes as a user starts them: an environment of a few variables, a PATH that holds what it is
 * told to.
 */
import { type SpawnOptions, type StdioOptions, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, symlinkSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { text } from 'node:stream/consumers'

export interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

/**
 * The environment is `env` and nothing else: tap adds to that of every process, which `env -i`
 * undoes.
 */
export async function runProcess(
  command: string,
  args: readonly string[],
  { env, ...options }: SpawnOptions & { env: NodeJS.ProcessEnv },
): Promise<Ended> {
  const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`)
  const stdio: StdioOptions = ['ignore', 'pipe', 'pipe']
  const child =
    process.platform === 'win32'
      ? spawn(command, args, { ...options, env, stdio })
      : spawn('/usr/bin/env', ['-i', ...variables, command, ...args], { ...options, stdio })
  const exit = once(child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>
  const [stdout, stderr, [code, signal]] = await Promise.all([
    text(child.stdout!),
    text(child.stderr!),
    exit,
  ])
  return { code, signal, stdout, stderr }
}

/** The npm that `npm run test:package` runs under; its failure is an error with its words. */
export async function runNpm(
  args: readonly string[],
  { env = cleanEnvironment(), ...options }: SpawnOptions,
): Promise<Ended> {
  const npm = process.env.MOEPP_NPM
  if (npm === undefined) throw new Error('run npm run test:package')
  const ended = await runProcess(process.execPath, [npm, ...args], { env, ...options })
  if (ended.code !== 0)
    throw new Error(`npm ${args.join(' ')} exited with ${ended.code}:\n${ended.stderr}`)
  return ended
}

/** This process's environment without npm's and tap's settings. */
export function cleanEnvironment(): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(
    ([name]) => !/^(npm_|TAP_|NODE_OPTIONS|MOEPP_|PREBUILDS_ONLY)/i.test(name),
  )
  return Object.fromEntries(kept)
}

/** A folder with node and nothing else, to be the PATH. */
export function nodeAlone(folder: string): string {
  if (process.platform === 'win32') return dirname(process.execPath)
  mkdirSync(folder, { recursive: true })
  symlinkSync(process.execPath, join(folder, 'node'))
  return folder
}
