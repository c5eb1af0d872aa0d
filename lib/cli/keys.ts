/** Bytes of a terminal's keyboard as keys: pasted blocks in one piece, and ends of lines. */

/** `bytes` is what a line editor understands. `newline` is Alt-Enter. */
export type Key =
  | { readonly bytes: Buffer }
  | { readonly pasted: string }
  | 'return'
  | 'newline'
  | 'interrupt'

// Bracketed paste: a terminal that was asked to puts these around a pasted text.
const PASTE_START = '\x1b[200~'
const PASTE_END = '\x1b[201~'
const ALT_ENTER = '\x1b\r'
const INTERRUPT = '\x03'

const KEYS: readonly (readonly [string, Key | 'paste'])[] = [
  [PASTE_START, 'paste'],
  [ALT_ENTER, 'newline'],
  ['\r\n', 'return'],
  ['\r', 'return'],
  ['\n', 'return'],
  [INTERRUPT, 'interrupt'],
]

/** Takes bytes as they come: a mark may be cut anywhere. */
export class KeyParser {
  // One character for each byte, which no cut can damage.
  #held = ''
  #pasted: string | undefined;

  *push(bytes: Buffer): Generator<Key, void> {
    this.#held += bytes.toString('latin1')
    while (this.#held !== '') {
      const key = this.#pasted === undefined ? this.#typed() : this.#paste(this.#pasted)
      if (key === undefined) return
      if (key !== 'paste') yield key
    }
  }

  /** The next key; undefined if more bytes must tell. */
  #typed(): Key | 'paste' | undefined {
    const text = this.#held
    const found = KEYS.map(([mark, key]) => ({ mark, key, at: text.indexOf(mark) }))
      .filter(({ at }) => at >= 0)
      .sort((a, b) => a.at - b.at || b.mark.length - a.mark.length)[0]
    const end = found?.at ?? text.length - lengthOfBegin(text, PASTE_START)
    if (end > 0) {
      this.#held = text.slice(end)
      return { bytes: Buffer.from(text.slice(0, end), 'latin1') }
    }
    if (!found) return undefined
    this.#held = text.slice(found.mark.length)
    if (found.key === 'paste') this.#pasted = ''
    return found.key
  }

  /** Ctrl-C ends a block whose end never comes. */
  #paste(before: string): Key | undefined {
    const text = before.slice(-PASTE_END.length) + this.#held
    const kept = before.slice(0, -PASTE_END.length)
    const end = text.indexOf(PASTE_END)
    const interrupt = text.indexOf(INTERRUPT)
    if (end < 0 && interrupt < 0) {
      this.#pasted = before + this.#held
      this.#held = ''
      return undefined
    }
    this.#pasted = undefined
    if (end < 0 || (interrupt >= 0 && interrupt < end)) {
      this.#held = text.slice(interrupt + 1)
      return 'interrupt'
    }
    this.#held = text.slice(end + PASTE_END.length)
    return { pasted: plainText(kept + text.slice(0, end)) }
  }
}

/** Length of the end of `text` that `mark` begins with. */
function lengthOfBegin(text: string, mark: string): number {
  let length = Math.min(text.length, mark.length - 1)
  while (!mark.startsWith(text.slice(text.length - length))) length--
  return length
}

/** Without what a terminal would obey, and without line breaks at its end. */
function plainText(latin1: string): string {
  return Buffer.from(latin1, 'latin1')
    .toString('utf8')
    .replaceAll(/\r\n?|[\u2028\u2029]/g, '\n')
    .replaceAll(/[^\P{Cc}\n\t]/gu, '')
    .replace(/\n+$/, '')
}
