/**
 * Reads texts from the keyboard of a terminal, with node:readline as the editor of a line. It gets
 * keys only while a text is read: what is typed during other work waits, and is not shown.
 */

import { createInterface, type Interface } from 'node:readline'
import { Readable, Writable } from 'node:stream'
import type { ReadStream, WriteStream } from 'node:tty'
import { EntryLines, oneLine } from './entry-lines.js'
import { type Key, KeyParser } from './keys.js'
import type { Terminal } from './terminal.js'

/** `interrupt`: Ctrl-C at an empty prompt. `cleared`: Ctrl-C took a text away. */
export type Entry = { readonly text: string } | 'interrupt' | 'cleared' | 'end'

const NEXT_LINE = '... '
const BRACKETED_PASTE = { on: '\x1b[?2004h', off: '\x1b[?2004l' }

export interface LineEditorOptions {
  /** Ctrl-C while nothing is read. */
  readonly onInterrupt: () => void
  /** Words that Tab completes at a text's beginning. */
  readonly words: readonly string[]
}

export class LineEditor implements Disposable {
  readonly #terminal: Terminal
  readonly #onInterrupt: () => void
  /** False for a terminal that knows no escape sequences: then the system edits lines. */
  readonly #edits: boolean
  readonly #parser = new KeyParser()
  readonly #input: EditorInput
  readonly #output: EditorOutput
  readonly #readline: Interface
  /** Keys that wait for the next read. */
  readonly #keys: Key[] = []
  readonly #lines = new EntryLines()
  /** Latest first. Readline's own list follows it. */
  readonly #entries: string[] = []
  #history: string[] = []
  #resolve: ((entry: Entry) => void) | undefined
  #hasEnded = false

  constructor(terminal: Terminal, { onInterrupt, words }: LineEditorOptions) {
    this.#terminal = terminal
    this.#onInterrupt = onInterrupt
    this.#edits = !terminal.isDumb
    this.#input = new EditorInput(terminal.stdin)
    this.#output = new EditorOutput(terminal)
    this.#readline = createInterface({
      input: this.#input,
      output: this.#output,
      terminal: this.#edits,
      completer: (line: string) => [words.filter(word => word.startsWith(line)), line],
    })
    this.#readline.on('line', line => this.#onLine(line))
    this.#readline.on('close', () => this.#end())
    this.#readline.on('SIGCONT', () => this.#readline.prompt(true))
    this.#readline.on('history', history => {
      this.#history = history
      this.#syncHistory()
    })
    terminal.stdin.on('data', this.#onData).on('end', this.#onEnd)
  }

  /** The next text. Only one read at a time. */
  read(prompt: string): Promise<Entry> {
    return new Promise(resolve => {
      this.#resolve = resolve
      if (this.#hasEnded) return this.#finish('end')
      if (this.#edits) void this.#terminal.writeRaw(BRACKETED_PASTE.on)
      this.#output.isActive = true
      this.#prompt(prompt)
      this.#work()
    })
  }

  /** Ctrl-C, as a key or as a signal. */
  interrupt(): void {
    this.#keys.length = 0
    if (!this.#resolve) {
      this.#onInterrupt()
      return
    }
    const isEmpty = this.#readline.line === '' && !this.#lines.isOpen
    this.#lines.clear()
    const resolve = this.#resolve
    this.#resolve = undefined
    this.#leaveLine()
    this.#resolve = resolve
    this.#finish(isEmpty ? 'interrupt' : 'cleared')
  }

  /** Ends a read, and all that come. */
  close(): void {
    this.#readline.close()
  }

  [Symbol.dispose](): void {
    this.close()
    this.#terminal.stdin.off('data', this.#onData).off('end', this.#onEnd).pause()
  }

  readonly #onData = (bytes: Buffer): void => {
    for (const key of this.#parser.push(bytes)) {
      if (key === 'interrupt') this.interrupt()
      else {
        this.#keys.push(key)
        this.#work()
      }
    }
  }

  readonly #onEnd = (): void => this.close()

  #prompt(prompt: string): void {
    this.#readline.setPrompt(prompt)
    this.#readline.prompt()
  }

  #work(): void {
    while (this.#resolve && this.#keys.length > 0) this.#press(this.#keys.shift()!)
  }

  #press(key: Key): void {
    if (typeof key === 'object') {
      if ('pasted' in key) this.#readline.write(oneLine(key.pasted))
      else this.#input.emit('data', key.bytes)
    } else if (key === 'newline') this.#readline.write(oneLine('\n'))
    else this.#input.emit('data', Buffer.from('\r'))
  }

  #onLine(line: string): void {
    // A line that Ctrl-C took away.
    if (!this.#resolve) return
    const text = this.#lines.add(line)
    if (text === undefined) this.#prompt(NEXT_LINE)
    else {
      if (text.trim() !== '') this.#remember(oneLine(text))
      this.#finish({ text })
    }
  }

  #remember(entry: string): void {
    if (this.#entries[0] !== entry) this.#entries.unshift(entry)
    this.#syncHistory()
  }

  #syncHistory(): void {
    this.#history.splice(0, this.#history.length, ...this.#entries)
  }

  /** Leaves the line on the screen as it is, as a shell does. */
  #leaveLine(): void {
    if (!this.#edits) return void this.#terminal.write('\n')
    this.#readline.write(null, { ctrl: true, name: 'e' })
    void this.#terminal.write('^C')
    this.#readline.write(null, { name: 'return' })
  }

  #end(): void {
    this.#hasEnded = true
    if (!this.#resolve) return
    void this.#terminal.write('\n')
    this.#finish('end')
  }

  #finish(entry: Entry): void {
    const resolve = this.#resolve
    this.#resolve = undefined
    this.#output.isActive = false
    if (this.#edits) void this.#terminal.writeRaw(BRACKETED_PASTE.off)
    resolve?.(entry)
  }
}

/** The keyboard as readline sees it: keys come as `data` events, one by one. */
class EditorInput extends Readable {
  readonly #stdin: Partial<ReadStream>

  constructor(stdin: Readable) {
    super()
    this.#stdin = stdin as Partial<ReadStream>
  }

  override _read(): void {}

  get isRaw(): boolean {
    return this.#stdin.isRaw === true
  }

  setRawMode(isRaw: boolean): this {
    this.#stdin.setRawMode?.(isRaw)
    return this
  }
}

/** The screen as readline sees it. A new size counts only while a text is read. */
class EditorOutput extends Writable {
  readonly #terminal: Terminal
  isActive = false

  constructor(terminal: Terminal) {
    super({ decodeStrings: false })
    this.#terminal = terminal
    terminal.stdout.on('resize', () => {
      if (this.isActive) this.emit('resize')
    })
  }

  get columns(): number | undefined {
    return (this.#terminal.stdout as Partial<WriteStream>).columns
  }

  /** At once: text of others must not come between. */
  override _write(text: string, _: string, done: () => void): void {
    void this.#terminal.writeRaw(text)
    done()
  }
}
