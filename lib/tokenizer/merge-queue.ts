/** Chooses the next merge: the one of the lowest rank, and of equal rank the leftmost. */

/**
 * A queue for each rank, and a heap of the ranks. Positions mostly come in ascending order, and
 * then each costs the same however many there are. Those that come late wait in a heap.
 */
export class MergeQueue {
  readonly #queues = new Map<number, PositionQueue>()
  /** Those whose queue is not empty. */
  readonly #ranks = new MinHeap()
  /** Rank of the position that pop gave last. */
  rank = -1

  push(rank: number, position: number): void {
    const queue = this.#queues.get(rank)
    if (queue) {
      queue.push(position)
      return
    }
    this.#queues.set(rank, new PositionQueue(position))
    this.#ranks.push(rank)
  }

  /** The next position; -1 if there is none. */
  pop(): number {
    const rank = this.#ranks.peek()
    if (rank === undefined) return -1
    this.rank = rank
    const queue = this.#queues.get(rank)!
    const position = queue.pop()
    if (queue.isEmpty) {
      this.#queues.delete(rank)
      this.#ranks.pop()
    }
    return position
  }
}

class PositionQueue {
  readonly #ascending: number[]
  #head = 0
  #last: number
  readonly #late = new MinHeap()

  constructor(position: number) {
    this.#ascending = [position]
    this.#last = position
  }

  get isEmpty(): boolean {
    return this.#head === this.#ascending.length && this.#late.peek() === undefined
  }

  push(position: number): void {
    if (position >= this.#last) {
      this.#ascending.push(position)
      this.#last = position
    } else this.#late.push(position)
  }

  pop(): number {
    const first = this.#ascending[this.#head]
    const late = this.#late.peek()
    if (first === undefined || (late !== undefined && late < first)) return this.#late.pop()!
    this.#head++
    return first
  }
}

class MinHeap {
  readonly #values: number[] = []

  peek(): number | undefined {
    return this.#values[0]
  }

  push(value: number): void {
    const values = this.#values
    let at = values.length
    values.push(value)
    while (at > 0) {
      const parent = (at - 1) >> 1
      if (values[parent]! <= value) break
      values[at] = values[parent]!
      at = parent
    }
    values[at] = value
  }

  pop(): number | undefined {
    const values = this.#values
    const least = values[0]
    const value = values.pop()
    if (value === undefined || values.length === 0) return least
    let at = 0
    for (;;) {
      let child = 2 * at + 1
      if (child >= values.length) break
      if (child + 1 < values.length && values[child + 1]! < values[child]!) child++
      if (values[child]! >= value) break
      values[at] = values[child]!
      at = child
    }
    values[at] = value
    return least
  }
}
