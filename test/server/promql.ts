/** The metrics and labels of an expression, by the grammar of Prometheus' own editor. */
import { parser } from '@prometheus-io/lezer-promql'

export interface Asked {
  readonly metrics: ReadonlySet<string>
  /** In matchers and groupings. */
  readonly labels: ReadonlySet<string>
}

/** @throws Error at the first place that the grammar does not know */
export function parsePromql(expression: string): Asked {
  const metrics = new Set<string>()
  const labels = new Set<string>()
  parser.parse(expression).iterate({
    enter: ({ name, from, to, type }) => {
      const text = expression.slice(from, to)
      if (type.isError) throw new Error(`wrong at column ${from + 1}: ${expression}`)
      if (name === 'Identifier') metrics.add(text)
      if (name === 'LabelName') labels.add(text)
    },
  })
  return { metrics, labels }
}
