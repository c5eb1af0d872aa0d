/** Standard input, output and error of a command line, with colours. */

import type { Readable, Writable } from 'node:stream'
import { isatty, WriteStream } from 'node:tty'
import { styleText } from 'node:util'
import { Output, wholeWrites } from './output.js'
import { visible } from './visible.js'

/** The format argument of node:util's styleText. */
type Style = Parameters<typeof styleText>[0]

export interface Streams {
  readonly stdin: Readable
  readonly stdout: Writable
  readonly stderr: Writable
  /** Columns of standard output, where it is a terminal. */
  readonly columns?: number | undefined
  /** `stdin` is false where it is left out. */
  readonly isTerminal: {
    readonly stdin?: boolean
    readonly stdout: boolean
    readonly stderr: boolean
  }
}

export class Terminal {
  readonly #streams: Streams
  readonly #output: Output
  readonly #hasColors: { readonly stdout: boolean; readonly stderr: boolean }
  /** True for a terminal that knows no escape sequences. */
  readonly isDumb: boolean

  constructor(streams: Streams, env: NodeJS.ProcessEnv = process.env) {
    this.#streams = streams
    this.#output = new Output(streams.stdout)
    this.#hasColors = {
      stdout: hasColors(streams.isTerminal.stdout, env),
      stderr: hasColors(streams.isTerminal.stderr, env),
    }
    this.isDumb = env.TERM === 'dumb'
    // A closed standard error loses messages, but is no reason to fail.
    streams.stderr.on('error', () => {})
  }

  /** That of this process. */
  static ofProcess(): Terminal {
    return new Terminal({
      // Opened only if it is read: an open standard input may keep a process alive.
      get stdin() {
        return process.stdin
      },
      stdout: wholeWrites(process.stdout),
      stderr: process.stderr,
      columns: process.stdout.columns,
      isTerminal: {
        stdin: isatty(0),
        stdout: process.stdout.isTTY === true,
        stderr: process.stderr.isTTY === true,
      },
    })
  }

  get stdin(): Readable {
    return this.#streams.stdin
  }

  /** Text goes through `write`; this is for the stream's events and size. */
  get stdout(): Writable {
    return this.#streams.stdout
  }

  get stderr(): Writable {
    return this.#streams.stderr
  }

  get stdinIsTerminal(): boolean {
    return this.#streams.isTerminal.stdin === true
  }

  get stdoutIsTerminal(): boolean {
    return this.#streams.isTerminal.stdout
  }

  get stderrIsTerminal(): boolean {
    return this.#streams.isTerminal.stderr
  }

  /** As wide as the terminal, but no wider than is good to read. */
  get columns(): number {
    return Math.min(this.#streams.columns ?? 100, 100)
  }

  /** Aborted when the reader of standard output has left, or writing failed. */
  get closed(): AbortSignal {
    return this.#output.closed
  }

  get stdoutHasColors(): boolean {
    return this.#hasColors.stdout
  }

  get stderrHasColors(): boolean {
    return this.#hasColors.stderr
  }

  /**
   * Writes to standard output; resolves when it takes more. A terminal shows control characters,
   * a pipe or a file gets the exact text.
   */
  write(text: string): Promise<void> {
    return this.writeRaw(this.stdoutIsTerminal ? visible(text) : text)
  }

  /** `write` for text with colours or other escape sequences of ours. */
  writeRaw(text: string): Promise<void> {
    return this.#output.write(text)
  }

  async writeJson(value: unknown): Promise<void> {
    await this.write(`${JSON.stringify(value, null, 2)}\n`)
  }

  /** Resolves when standard output has everything: the next message comes after it. */
  flush(): Promise<void> {
    return this.#output.flush()
  }

  /** @throws MoeppError ERR_CANNOT_WRITE if standard output is not whole */
  finish(): Promise<void> {
    return this.#output.finish()
  }

  /** A line on standard error. */
  note(text: string): void {
    this.#message('', text)
  }

  /** A line of figures, less bright than the text it follows. */
  figures(text: string): void {
    this.#writeError(`${this.#paint('dim', `moepp: ${text}`)}\n`)
  }

  warn(text: string): void {
    this.#message('yellow', `warning: ${text}`)
  }

  error(text: string): void {
    this.#message('red', text)
  }

  #message(style: Style | '', text: string): void {
    const shown = this.stderrIsTerminal ? visible(text) : text
    this.#writeError(`${style === '' ? 'moepp:' : this.#paint(style, 'moepp:')} ${shown}\n`)
  }

  #paint(style: Style, text: string): string {
    return this.stderrHasColors ? paint(style, text) : text
  }

  #writeError(text: string): void {
    this.#streams.stderr.write(text)
  }
}

/** Always colours: the caller has checked the stream. */
export function paint(style: Style, text: string): string {
  return styleText(style, text, { validateStream: false })
}

/** As Node decides it: FORCE_COLOR counts everywhere, NO_COLOR and its kin on a terminal. */
function hasColors(isTerminal: boolean, env: NodeJS.ProcessEnv): boolean {
  if (!isTerminal && env.FORCE_COLOR === undefined) return false
  return WriteStream.prototype.getColorDepth(env) > 2
}
