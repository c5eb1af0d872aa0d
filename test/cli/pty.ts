/** Runs `moepp` in a pseudo-terminal, by `script` of util-linux, and types on its keyboard. */
import { type ChildProcessWithoutNullStreams, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { stripVTControlCharacters } from 'node:util'
import { root } from '../support/golden.js'

const MAIN = join(root, 'dist', 'cli', 'main.js')

/** The reason that there is no pseudo-terminal here; false if there is one. */
export const noPty = ((): string | false => {
  const { status, stdout } = spawnSync('script', ['-qefc', 'tty', '/dev/null'], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  return status === 0 && stdout.startsWith('/dev/') ? false : 'no `script` of util-linux'
})()

export const KEY = {
  interrupt: '\x03',
  end: '\x04',
  enter: '\r',
  altEnter: '\x1b\r',
  up: '\x1b[A',
  paste: (text: string) => `\x1b[200~${text}\x1b[201~`,
} as const

export class Pty {
  readonly #child: ChildProcessWithoutNullStreams
  readonly #exit: Promise<[number | null]>
  /** The terminal's device file. */
  #device = ''
  #output = ''
  /** Output before this was waited for. */
  #seen = 0
  #wake: () => void = () => {}

  private constructor(args: readonly string[], env: NodeJS.ProcessEnv, columns: number) {
    const words = [process.execPath, MAIN, ...args].map(
      word => `'${word.replaceAll("'", "'\\''")}'`,
    )
    const command = `tty; stty cols ${columns} rows 24; exec ${words.join(' ')}`
    this.#child = spawn('script', ['-qefc', command, '/dev/null'], {
      cwd: root,
      env: { ...process.env, NODE_OPTIONS: '', SHELL: '/bin/sh', TERM: 'xterm-256color', ...env },
    })
    this.#exit = once(this.#child, 'close') as Promise<[number | null]>
    this.#child.stdout.setEncoding('utf8').on('data', (text: string) => {
      this.#output += text
      this.#wake()
    })
    this.#child.on('close', () => this.#wake())
    this.#child.stdin.on('error', () => {})
  }

  static async start(
    args: readonly string[],
    { env = {}, columns = 80 }: { env?: NodeJS.ProcessEnv; columns?: number } = {},
  ): Promise<Pty> {
    const pty = new Pty(args, env, columns)
    pty.#device = (await pty.until(/^\S+\r\n/)).trim()
    return pty
  }

  type(...keys: readonly string[]): void {
    this.#child.stdin.write(keys.join(''))
  }

  /** The terminal gets another size, and the program its signal. */
  resize(columns: number): void {
    spawnSync('stty', ['-F', this.#device, 'cols', String(columns)])
  }

  /** The output up to and with `expected`, since the last call. */
  async until(expected: string | RegExp): Promise<string> {
    for (;;) {
      const rest = this.#output.slice(this.#seen)
      const end = endOf(rest, expected)
      if (end !== undefined) {
        this.#seen += end
        return rest.slice(0, end)
      }
      if (this.#child.exitCode !== null)
        throw new Error(`the program has ended; expected ${expected}, got ${JSON.stringify(rest)}`)
      const output = new Promise<void>(resolve => {
        this.#wake = resolve
      })
      await output
    }
  }

  /** The exit code, and the output since the last wait. */
  async exit(): Promise<{ readonly code: number | null; readonly output: string }> {
    const [code] = await this.#exit
    return { code, output: this.#output.slice(this.#seen) }
  }

  /** Everything that came on the screen. */
  get all(): string {
    return this.#output
  }

  kill(): void {
    this.#child.kill('SIGKILL')
  }
}

function endOf(text: string, expected: string | RegExp): number | undefined {
  if (typeof expected === 'string') {
    const at = text.indexOf(expected)
    return at < 0 ? undefined : at + expected.length
  }
  const found = expected.exec(text)
  return found ? found.index + found[0].length : undefined
}

/** Without escape sequences. */
export const plain = stripVTControlCharacters
