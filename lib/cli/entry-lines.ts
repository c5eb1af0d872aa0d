/** Several lines of a keyboard as one text. */

/** Stands for a line break within a line that is edited. A text that has it gets a line break. */
const LINE_BREAK = '\u2424'

/** Joins lines while each but the last ends with a backslash. */
export class EntryLines {
  #text = ''

  /** True if a line is to be continued. */
  get isOpen(): boolean {
    return this.#text !== ''
  }

  /** The whole text, if `line` is its last one. */
  add(line: string): string | undefined {
    const text = this.#text + line.replaceAll(LINE_BREAK, '\n')
    if (text.endsWith('\\')) {
      this.#text = `${text.slice(0, -1)}\n`
      return undefined
    }
    this.#text = ''
    return text
  }

  clear(): void {
    this.#text = ''
  }
}

/** A text in one line, as the editor shows it. */
export function oneLine(text: string): string {
  return text.replaceAll('\n', LINE_BREAK)
}
