/** The FFN experts that tokens go to: zero-computation experts make them fewer. */
import type { Registry } from 'prom-client'
import type { ExpertCounts } from '../../generation/results.js'
import { CountedHistogram } from './counted-histogram.js'

/** A model has many layers. Few series are enough to tell the early ones from the late. */
const GROUPS = 4

/** Returns a function that adds the counts of a text. */
export function addExpertMetrics(
  registry: Registry,
  { layers, topK }: { readonly layers: number; readonly topK: number },
): (counts: readonly ExpertCounts[]) => void {
  const groupSize = Math.ceil(layers / GROUPS)
  const series = Array.from({ length: Math.ceil(layers / groupSize) }, (_, group) => {
    const first = group * groupSize
    const last = Math.min(layers, first + groupSize) - 1
    const counted = { counts: new Array<number>(topK + 1).fill(0), sum: 0 }
    return { labels: { layers: `${first}-${last}` }, counted }
  })
  new CountedHistogram({
    name: 'moepp_ffn_experts_per_token',
    help: 'FFN experts of a token in a layer; a value for each token and layer.',
    registry,
    bounds: Array.from({ length: topK + 1 }, (_, k) => k),
    series: () => series,
  })
  return counts => {
    for (const { layer, tokens } of counts) {
      const { counted } = series[Math.floor(layer / groupSize)]!
      tokens.forEach((count, k) => {
        counted.counts[k]! += count
        counted.sum += k * count
      })
    }
  }
}
