/** A run of inputs, and the counts of what came of them. */

import type { Target } from './corpus.js'
import { type Format, parserFormats } from './formats.js'
import { type Input, Inputs } from './inputs.js'
import { LoadReader, loadFormats } from './loads.js'
import { placeOf } from './oracle.js'
import { ParserReader, type Reader } from './readers.js'

export interface Found {
  readonly input: Input
  readonly finding: string
}

/** Counts by name. */
export type Counts = Record<string, number>

export class Session {
  readonly inputs: Inputs
  /** By format. */
  readonly formats: Counts = {}
  /** By what came of them. */
  readonly outcomes: Counts = {}
  readonly findings: Found[] = []
  done = 0
  readonly #reader: Reader
  readonly #known = new Set<string>()

  private constructor(formats: readonly Format[], reader: Reader) {
    this.inputs = new Inputs(formats)
    this.#reader = reader
  }

  static async start(target: Target, only?: string): Promise<Session> {
    const formats = target === 'parsers' ? await parserFormats() : await loadFormats()
    const chosen = only === undefined ? formats : formats.filter(({ name }) => name === only)
    if (chosen.length === 0)
      throw new RangeError(`format: expected ${formats.map(({ name }) => name).join(', ')}`)
    return new Session(chosen, target === 'parsers' ? new ParserReader() : await LoadReader.start())
  }

  /** Runs one input; of findings alike the first is kept. */
  async run(input: Input): Promise<void> {
    const outcome = await this.#reader.run(input.format, input.files)
    this.done++
    count(this.formats, input.format.name)
    count(this.outcomes, outcome.finding ? 'finding' : outcome.kind)
    this.inputs.learn(input, outcome)
    if (!outcome.finding) return
    const kind = `${input.format.name} ${placeOf(outcome.finding)}`
    if (this.#known.has(kind)) return
    this.#known.add(kind)
    this.findings.push({ input, finding: outcome.finding })
  }

  close(): void {
    this.#reader.close()
  }
}

export function count(counts: Counts, name: string, by = 1): void {
  counts[name] = (counts[name] ?? 0) + by
}
