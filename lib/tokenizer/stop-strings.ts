/**
 * Ends a text at the first of some stop strings, as the text arrives in chunks. A possible begin of
 * a stop string is held back, so that no part of one is ever given out.
 *
 * The stop string that is complete first counts; of those that end at one place, the longest. The
 * chunks may be cut anywhere. Each character costs O(1), amortised, however many stop strings there
 * are: Aho-Corasick.
 */

interface Node {
  /** Length of the beginning of a stop string that this node stands for, in UTF-16 units. */
  readonly length: number
  readonly next: Map<string, Node>
  /** The longest proper suffix of this node's string that begins a stop string. */
  fail: Node | undefined
  /** The longest stop string that ends here. */
  stop: string | undefined
}

export interface StopResult {
  /** Text that can be given out. */
  readonly text: string
  /** The stop string that ended the text. */
  readonly stop?: string
}

export class StopStrings {
  readonly #root: Node
  #node: Node
  #held = ''
  #stop: string | undefined

  constructor(stop: string | readonly string[]) {
    const stops = typeof stop === 'string' ? [stop] : stop
    for (const [i, text] of stops.entries()) {
      if (typeof text !== 'string')
        throw new TypeError(`stop[${i}]: expected a string, got ${typeof text}`)
      if (text === '') throw new RangeError(`stop[${i}]: expected a text, got ''`)
    }
    this.#root = automaton(stops)
    this.#node = this.#root
  }

  /** The stop string that was found. After it, there is no more text. */
  get stop(): string | undefined {
    return this.#stop
  }

  push(chunk: string): StopResult {
    if (this.#stop !== undefined) return { text: '', stop: this.#stop }
    const text = this.#held + chunk
    let at = this.#held.length
    let node = this.#node
    for (const character of chunk) {
      at += character.length
      node = step(node, character)
      if (node.stop === undefined) continue
      this.#stop = node.stop
      this.#held = ''
      return { text: text.slice(0, at - node.stop.length), stop: node.stop }
    }
    this.#node = node
    this.#held = text.slice(text.length - node.length)
    return { text: text.slice(0, text.length - node.length) }
  }

  /** The text that is held back still, once no more follows. */
  flush(): string {
    const text = this.#held
    this.#held = ''
    this.#node = this.#root
    return text
  }
}

function step(from: Node, character: string): Node {
  let node = from
  for (;;) {
    const next = node.next.get(character)
    if (next) return next
    if (node.fail === undefined) return node
    node = node.fail
  }
}

function automaton(stops: readonly string[]): Node {
  const root: Node = { length: 0, next: new Map(), fail: undefined, stop: undefined }
  for (const text of stops) {
    let node = root
    for (const character of text) {
      let next = node.next.get(character)
      if (!next) {
        next = {
          length: node.length + character.length,
          next: new Map(),
          fail: root,
          stop: undefined,
        }
        node.next.set(character, next)
      }
      node = next
    }
    node.stop = text
  }
  // Breadth first: a node's fail link is shorter than the node, so it is complete when the node
  // needs it.
  const queue = [...root.next.values()]
  for (const node of queue) {
    for (const [character, next] of node.next) {
      next.fail = step(node.fail!, character)
      next.stop ??= next.fail.stop
      queue.push(next)
    }
  }
  return root
}
