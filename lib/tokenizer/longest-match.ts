/** Finds the longest of some texts at a place in a text. */

interface Node {
  /** By UTF-16 unit. */
  readonly next: Map<number, Node>
  text?: string
}

export class LongestMatch {
  readonly #root: Node = { next: new Map() }
  /** Length of the longest text, in UTF-16 units; 0 if there is none. */
  readonly maxLength: number

  constructor(texts: readonly string[]) {
    this.maxLength = texts.reduce((most, text) => Math.max(most, text.length), 0)
    for (const text of texts) {
      let node = this.#root
      for (let i = 0; i < text.length; i++) {
        const unit = text.charCodeAt(i)
        let child = node.next.get(unit)
        if (!child) {
          child = { next: new Map() }
          node.next.set(unit, child)
        }
        node = child
      }
      if (text !== '') node.text = text
    }
  }

  /** The longest of the texts that stands at `start`. */
  at(text: string, start: number): string | undefined {
    let found: string | undefined
    let node = this.#root.next.get(text.charCodeAt(start))
    for (let i = start + 1; node; i++) {
      found = node.text ?? found
      node = node.next.get(text.charCodeAt(i))
    }
    return found
  }
}
