/** Times and lengths of texts. */
import { Counter, Histogram, type Registry } from 'prom-client'
import type { ExpertCounts } from '../../generation/results.js'
import type { TextObserver } from '../observer.js'

/** Seconds, for whole requests and their parts. */
const LONG = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640]
/** Seconds, for one token. */
const SHORT = [0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 2.5, 5, 10]
const TOKENS = Array.from({ length: 18 }, (_, i) => 2 ** i)

type FinishedText = Parameters<TextObserver['finished']>[0]

/** Returns the observer of one text of a route. */
export function addTextMetrics(
  registry: Registry,
  addExperts: (counts: readonly ExpertCounts[]) => void,
): (route: string) => TextObserver {
  const histogram = (name: string, help: string, buckets: readonly number[]) =>
    new Histogram({
      name: `moepp_${name}`,
      help,
      labelNames: ['route'],
      buckets: [...buckets],
      registers: [registry],
    })
  const queueTime = histogram('request_queue_time_seconds', 'Time of a text in the queue.', LONG)
  const firstToken = histogram(
    'time_to_first_token_seconds',
    'Time from the admission of a text to its first token.',
    LONG,
  )
  const interToken = histogram(
    'inter_token_latency_seconds',
    'Time from one token of a text to the next.',
    SHORT,
  )
  const whole = histogram(
    'e2e_request_latency_seconds',
    'Time from the admission of a text to its end.',
    LONG,
  )
  const promptTokens = histogram('request_prompt_tokens', 'Tokens of a prompt.', TOKENS)
  const newTokens = histogram('request_generation_tokens', 'Tokens generated for a text.', TOKENS)
  const success = new Counter({
    name: 'moepp_request_success_total',
    help: 'Texts that have ended, by the reason.',
    labelNames: ['route', 'finished_reason'],
    registers: [registry],
  })

  const finish = (route: string, { usage, finishReason, routing }: FinishedText) => {
    success.inc({ route, finished_reason: finishReason })
    promptTokens.observe({ route }, usage.promptTokens)
    newTokens.observe({ route }, usage.generatedTokens)
    if (routing) addExperts(routing.counts)
  }
  return route => {
    const admitted = performance.now()
    /** Of the newest token. */
    let last: number | undefined
    return {
      started: () => queueTime.observe({ route }, secondsSince(admitted)),
      tokens: count => {
        if (count === 0) return
        if (last === undefined) firstToken.observe({ route }, secondsSince(admitted))
        else {
          // Tokens that come together share the time.
          const seconds = secondsSince(last) / count
          for (let i = 0; i < count; i++) interToken.observe({ route }, seconds)
        }
        last = performance.now()
      },
      finished: text => {
        whole.observe({ route }, secondsSince(admitted))
        finish(route, text)
      },
    }
  }
}

function secondsSince(time: number): number {
  return (performance.now() - time) / 1000
}
