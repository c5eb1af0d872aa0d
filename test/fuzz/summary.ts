/** A run's progress and its findings, which it writes to files. */

import { createHash } from 'node:crypto'
import { type CorpusEntry, writeEntry } from './corpus.js'
import { placeOf } from './oracle.js'
import { type Counts, count } from './session.js'
import type { Report } from './supervisor.js'

export class Summary {
  readonly #started = performance.now()
  readonly #formats: Counts = {}
  readonly #outcomes: Counts = {}
  readonly #kinds = new Set<string>()
  #done = 0
  #places = 0
  #rss = 0

  constructor(private readonly corpus: string) {}

  get findings(): number {
    return this.#kinds.size
  }

  add({ done, formats, outcomes, places, findings }: Report): void {
    this.#done += done
    this.#places = Math.max(this.#places, places)
    for (const [name, by] of Object.entries(formats)) count(this.#formats, name, by)
    for (const [name, by] of Object.entries(outcomes)) count(this.#outcomes, name, by)
    for (const entry of findings) this.found(entry)
  }

  seen(rss: number): void {
    this.#rss = Math.max(this.#rss, rss)
  }

  /** Findings alike are written once. */
  found(entry: CorpusEntry): void {
    const kind = `${entry.target} ${entry.format} ${placeOf(entry.found)}`
    if (this.#kinds.has(kind)) return
    this.#kinds.add(kind)
    const hash = createHash('sha256').update(kind).digest('hex').slice(0, 8)
    const name = `${entry.target}-${entry.format.replace(/\W+/g, '-')}-${hash}`
    const path = writeEntry(this.corpus, name, entry)
    const { target, format, seed, found } = entry
    console.log(`FOUND after ${this.#done} inputs: ${format}: ${found}`)
    console.log(`  --target=${target} --format='${format}' --seed=${seed} --inputs=1`)
    console.log(`  ${path}`)
  }

  line(): string {
    const seconds = (performance.now() - this.#started) / 1000
    const rate = Math.round(this.#done / seconds)
    return (
      `${this.#done} inputs in ${seconds.toFixed(0)} s, ${rate} a second; ` +
      `${this.#places} places; ${this.findings} findings; ` +
      `at most ${Math.round(this.#rss / 2 ** 20)} MiB`
    )
  }

  text(): string {
    const table = (counts: Counts) =>
      Object.entries(counts)
        .sort(([, a], [, b]) => b - a)
        .map(([name, number]) => `  ${String(number).padStart(10)}  ${name}`)
    return [
      'By format:',
      ...table(this.#formats),
      'By outcome:',
      ...table(this.#outcomes),
      this.line(),
    ].join('\n')
  }
}
