/**
 * Inputs by their seeds. `12` is a valid folder that seed 12 has changed; `12.40` is the same,
 * changed again by 40. A run continues from inputs that reached a new place.
 */

import type { Format } from './formats.js'
import { changedFolder } from './mutations.js'
import type { Outcome } from './oracle.js'
import { Random } from './random.js'
import type { Folder } from './seeds.js'

export interface Input {
  /** Seeds, joined by dots. */
  readonly id: string
  readonly format: Format
  readonly files: Folder
}

/** Of inputs that are gone on from: how many of one format, how long, how large. */
const MOST_KEPT = 400
const MOST_STEPS = 6
const MOST_KEPT_BYTES = 100_000

export class Inputs {
  readonly #formats: readonly Format[]
  readonly #kept = new Map<string, Input[]>()
  readonly #places = new Set<string>()
  /** Formats, each as often as its weight. */
  readonly #choice: readonly Format[]

  constructor(formats: readonly Format[]) {
    this.#formats = formats
    this.#choice = formats.flatMap(format => Array<Format>(format.weight).fill(format))
  }

  /** The input of these seeds, the same whatever was run before. */
  byId(id: string): Input {
    const [first, ...rest] = id.split('.').map(Number)
    if (![first, ...rest].every(Number.isSafeInteger)) throw new RangeError(`seed: ${id}`)
    return rest.reduce((input, seed) => this.#further(input, seed), this.#fresh(first!))
  }

  /** The next input of a run: fresh, or one that goes on from another. */
  next(seed: number): Input {
    const kept = this.#kept.get(this.#formatOf(seed).name)
    const random = new Random(seed + 2 ** 40)
    return !kept || random.once(2) ? this.#fresh(seed) : this.#further(random.pick(kept), seed)
  }

  /** Keeps an input that came to a place where none had come. */
  learn(input: Input, { place, finding }: Outcome): void {
    const key = `${input.format.name} ${place}`
    if (finding || this.#places.has(key)) return
    this.#places.add(key)
    const kept = this.#kept.get(input.format.name) ?? []
    const bytes = [...input.files.values()].reduce((sum, { length }) => sum + length, 0)
    if (kept.length === MOST_KEPT || bytes > MOST_KEPT_BYTES) return
    if (input.id.split('.').length >= MOST_STEPS) return
    kept.push(input)
    this.#kept.set(input.format.name, kept)
  }

  get places(): number {
    return this.#places.size
  }

  format(name: string): Format {
    const found = this.#formats.find(format => format.name === name)
    if (!found) throw new RangeError(`format: ${name}`)
    return found
  }

  /** A stream of its own, so that an input is the same where only its format is run. */
  #formatOf(seed: number): Format {
    return new Random(seed + 2 ** 41).pick(this.#choice)
  }

  #fresh(seed: number): Input {
    const random = new Random(seed)
    const format = this.#formatOf(seed)
    const files = changedFolder(random.pick(format.seeds), format.focus, random)
    return { id: String(seed), format, files }
  }

  #further({ id, format, files }: Input, seed: number): Input {
    return {
      id: `${id}.${seed}`,
      format,
      files: changedFolder(files, format.focus, new Random(seed)),
    }
  }
}
