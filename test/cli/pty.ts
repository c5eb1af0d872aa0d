/** Runs `moepp` in a pseudo-terminal, by `script` of util-linux, and types on its keyboard. */
import { type ChildProcessWithoutNullStreams, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { root } from '../support/golden.js'
import { Screen } from './screen.js'

const MAIN = join(root, 'dist', 'cli', 'main.js')

/** The reason that there is no pseudo-terminal here; false if there is one. */
export const noPty = ((): string | false => {
  const { status, stdout } = spawnSync('script', ['-qefc', 'tty', '/dev/null'], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  return status === 0 && stdout.startsWith('/dev/') ? false : 'no `script` of util-linux'
})()

export class Pty {
  readonly screen = new Screen()
  readonly #child: ChildProcessWithoutNullStreams
  readonly #exit: Promise<[number | null]>
  /** Of the program. */
  pid = 0
  /** The terminal's device file. */
  #device = ''

  private constructor(args: readonly string[], env: NodeJS.ProcessEnv) {
    const words = [process.execPath, MAIN, ...args].map(
      word => `'${word.replaceAll("'", "'\\''")}'`,
    )
    const command = `echo $$; tty; stty cols 80 rows 24; exec ${words.join(' ')}`
    // No more of this environment: CI, NO_COLOR and others would take the colours.
    const { PATH, HOME } = process.env
    this.#child = spawn('script', ['-qefc', command, '/dev/null'], {
      cwd: root,
      env: { PATH, HOME, SHELL: '/bin/sh', TERM: 'xterm-256color', ...env },
    })
    this.#exit = once(this.#child, 'close') as Promise<[number | null]>
    this.#child.stdout.setEncoding('utf8').on('data', text => this.screen.add(text))
    this.#child.on('close', () => this.screen.end())
    this.#child.stdin.on('error', () => {})
  }

  static async start(
    args: readonly string[],
    { env = {} }: { env?: NodeJS.ProcessEnv } = {},
  ): Promise<Pty> {
    const pty = new Pty(args, env)
    pty.pid = Number(await pty.screen.until('\r\n'))
    pty.#device = (await pty.screen.until('\r\n')).trim()
    return pty
  }

  type(...keys: readonly string[]): void {
    this.#child.stdin.write(keys.join(''))
  }

  /** The terminal gets another size, and the program its signal. */
  resize(columns: number): void {
    spawnSync('stty', ['-F', this.#device, 'cols', String(columns)])
  }

  /** The exit code. */
  async exit(): Promise<number | null> {
    return (await this.#exit)[0]
  }

  kill(): void {
    this.#child.kill('SIGKILL')
  }
}

/** All that `moepp` writes on a terminal. */
export async function onTerminal(args: readonly string[]): Promise<string> {
  const pty = await Pty.start(args)
  await pty.exit()
  return pty.screen.all
}
