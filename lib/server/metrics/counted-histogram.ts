/** A histogram of values that have been counted elsewhere, or that come many at a time. */
import { Histogram, type Registry } from 'prom-client'

type Report<Label extends string> = Awaited<ReturnType<Histogram<Label>['get']>>

/** Values, by the first of the bounds that is not below them. */
export interface Counted {
  /** One entry per bound; values above all bounds may follow. */
  readonly counts: readonly number[]
  readonly sum: number
}

export interface CountedHistogramOptions<Label extends string> {
  readonly name: string
  readonly help: string
  readonly registry: Registry
  /** Ascending. */
  readonly bounds: readonly number[]
  /** All series, when they are read. */
  readonly series: () => readonly { labels: Partial<Record<Label, string>>; counted: Counted }[]
}

/** Prometheus' form of them. prom-client's own takes values only one by one. */
export class CountedHistogram<Label extends string> extends Histogram<Label> {
  readonly #options: CountedHistogramOptions<Label>

  constructor(options: CountedHistogramOptions<Label>) {
    const { name, help, registry, bounds } = options
    super({ name, help, registers: [registry], buckets: [...bounds] })
    this.#options = options
  }

  override async get(): Promise<Report<Label>> {
    const { name, help, bounds } = this.#options
    const values = this.#options.series().flatMap(({ labels, counted }) => {
      const total = counted.counts.reduce((sum, count) => sum + count, 0)
      let below = 0
      const buckets = bounds.map((le, i) => {
        below += counted.counts[i] ?? 0
        return { metricName: `${name}_bucket`, labels: { ...labels, le }, value: below }
      })
      return [
        ...buckets,
        { metricName: `${name}_bucket`, labels: { ...labels, le: '+Inf' }, value: total },
        { metricName: `${name}_sum`, labels, value: counted.sum },
        { metricName: `${name}_count`, labels, value: total },
      ]
    })
    // Its types call `type` a number, and it writes it as a text.
    return { name, help, type: 'histogram', aggregator: 'sum', values } as unknown as Report<Label>
  }

  /** The registry prefers it to `get`, where there is one. */
  getForPromString(): Promise<Report<Label>> {
    return this.get()
  }
}
