/** The engine's figures and the queue's, as they are when they are scraped. */
import { Counter, Gauge, type Registry } from 'prom-client'
import type { ModelStats, StepSizes } from '../../engine/stats.js'
import type { Admission } from '../admission.js'
import { CountedHistogram } from './counted-histogram.js'

/** Name, explanation, and the value. */
type Row = readonly [name: string, help: string, value: (stats: ModelStats) => number]

/** Names are vLLM's where the meaning is. */
const COUNTERS: readonly Row[] = [
  ['prompt_tokens_total', 'Tokens of prompts that were computed.', s => s.promptTokens],
  ['generation_tokens_total', 'Tokens that were generated.', s => s.generatedTokens],
  [
    'prefix_cache_queries_total',
    'Tokens of prompts that were looked for in the KV cache.',
    s => s.promptTokens + s.prefixTokens,
  ],
  ['prefix_cache_hits_total', 'Tokens of prompts found in the KV cache.', s => s.prefixTokens],
  [
    'num_preemptions_total',
    'Times that a text gave its KV pages to another, to be computed again.',
    s => s.preemptions,
  ],
  [
    'spec_decode_num_draft_tokens_total',
    'Tokens that were computed as guesses.',
    s => s.draftedTokens,
  ],
  [
    'spec_decode_num_accepted_tokens_total',
    'Guesses that came: each has saved a step of its text.',
    s => s.acceptedTokens,
  ],
]

const GAUGES: readonly Row[] = [
  ['num_requests_running', 'Texts that are computed.', s => s.running],
  ['kv_cache_usage_perc', 'KV pages in use, from 0 to 1.', s => s.kvPagesUsed / s.kvPagesTotal],
]

/** Of KV pages. Those that are shared are among those that are used. */
const PAGES: Readonly<Record<string, (stats: ModelStats) => number>> = {
  used: s => s.kvPagesUsed,
  cached: s => s.kvPagesCached,
  free: s => s.kvPagesTotal - s.kvPagesUsed - s.kvPagesCached,
}

export function addEngineMetrics(
  registry: Registry,
  stats: () => ModelStats,
  admission: Admission,
): void {
  const registers = [registry]
  for (const [name, help, value] of COUNTERS)
    new Counter({
      name: `moepp_${name}`,
      help,
      registers,
      collect() {
        this.reset()
        this.inc(value(stats()))
      },
    })
  const gauge = (name: string, help: string, value: () => number) =>
    new Gauge({
      name: `moepp_${name}`,
      help,
      registers,
      collect() {
        this.set(value())
      },
    })
  for (const [name, help, value] of GAUGES) gauge(name, help, () => value(stats()))
  gauge('num_requests_waiting', 'Texts that wait: in the queue, or for KV pages.', () => {
    return admission.queued + stats().waiting
  })
  gauge('queue_tokens', 'Tokens of the texts in the queue.', () => admission.queuedTokens)
  gauge('queue_limit', 'Texts that the queue takes.', () => admission.limits.maxQueued)
  new Gauge({
    name: 'moepp_kv_cache_pages',
    help: 'KV pages: used by texts, free with tokens of earlier texts (cached), or free.',
    labelNames: ['state'],
    registers,
    collect() {
      for (const [state, value] of Object.entries(PAGES)) this.set({ state }, value(stats()))
    },
  })
  addSteps(registry, 'iteration_tokens_total', 'Tokens of each step.', 14, () => stats().stepTokens)
  addSteps(registry, 'iteration_sequences', 'Texts of each step.', 10, () => stats().stepSequences)
}

/** The bounds are 1, 2, 4 and so on, as the engine counts. */
function addSteps(
  registry: Registry,
  name: string,
  help: string,
  doublings: number,
  sizes: () => StepSizes,
): void {
  new CountedHistogram({
    name: `moepp_${name}`,
    help,
    registry,
    bounds: Array.from({ length: doublings + 1 }, (_, i) => 2 ** i),
    series: () => [{ labels: {}, counted: sizes() }],
  })
}
