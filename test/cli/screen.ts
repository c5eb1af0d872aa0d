/** Keys of a terminal, and the text that a program has put on its screen, to be waited for. */

/** Keys as a terminal sends them. */
export const KEY = {
  interrupt: '\x03',
  end: '\x04',
  enter: '\r',
  altEnter: '\x1b\r',
  up: '\x1b[A',
  paste: (text: string) => `\x1b[200~${text}\x1b[201~`,
} as const

export class Screen {
  #text = ''
  /** Text before this was waited for. */
  #seen = 0
  #hasEnded = false
  #wake: () => void = () => {}

  add(text: string): void {
    this.#text += text
    this.#wake()
  }

  /** Nothing more comes. */
  end(): void {
    this.#hasEnded = true
    this.#wake()
  }

  /** All of it. */
  get all(): string {
    return this.#text
  }

  /** The text that was not waited for. */
  get rest(): string {
    return this.#text.slice(this.#seen)
  }

  /** The text up to and with `expected`, since the last call. */
  async until(expected: string | RegExp): Promise<string> {
    for (;;) {
      const { rest } = this
      const end = endOf(rest, expected)
      if (end !== undefined) {
        this.#seen += end
        return rest.slice(0, end)
      }
      if (this.#hasEnded)
        throw new Error(`the program has ended; expected ${expected}, got ${JSON.stringify(rest)}`)
      await new Promise<void>(resolve => {
        this.#wake = resolve
      })
    }
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
