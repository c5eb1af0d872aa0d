/**
 * Events for loggers and tracers, through Node's diagnostics_channel.
 *
 * There are tracing channels for `moepp:load`, `moepp:generate` (also of `stream` and chats),
 * `moepp:forward` and `moepp:score`. Each publishes `start` when the work begins, `asyncEnd` when
 * it has ended, and `error` before that if it failed. The message is a LoadTrace or a CallTrace:
 * one object for all events of a call, which gets more fields at the end.
 *
 * Messages hold counts, times and names. They never hold a prompt, a text, token ids or an access
 * token. Wrong arguments throw before a call starts, and publish nothing. Without subscribers no
 * message is made.
 */
import * as diagnostics from 'node:diagnostics_channel'
import type { HeldType } from '../options/generate.js'
import type { GenerateResult } from './results.js'

/**
 * Message of the tracing channels `moepp:load`, for each call of `loadModel`.
 *
 * @example
 * ```ts
 * import { subscribe } from 'node:diagnostics_channel'
 * import type { LoadTrace } from 'moepp'
 *
 * subscribe('tracing:moepp:load:asyncEnd', message => {
 *   const { source, device, dtype, ms, error } = message as LoadTrace
 *   if (error) console.error(`${source}: ${error}`)
 *   else console.log(`${source}: ${dtype} on ${device}, loaded in ${ms?.toFixed()} ms`)
 * })
 * ```
 */
export interface LoadTrace {
  /** The source as passed: a directory, or the model's name on a hub. */
  readonly source: string
  /** The options of the call. */
  readonly requested: {
    /** The option `device`. */
    readonly device: string
    /** The option `dtype`. */
    readonly dtype: string
  }
  /** Device of the loaded model: `cpu` or `cuda:0`. */
  device?: string
  /** Once it is loaded: the type that most weights are held in. */
  dtype?: HeldType
  /** Milliseconds that the call took, once it has ended. */
  ms?: number
  /** The reason that the caller's promise rejects with, if it fails. */
  error?: unknown
}

/**
 * Usage, times and end of one text of a call.
 *
 * @example
 * ```ts
 * import type { TracedResult } from 'moepp'
 *
 * const log = ({ usage, finishReason }: TracedResult) =>
 *   console.log(`${usage.generatedTokens} tokens, ended by ${finishReason}`)
 * ```
 */
export type TracedResult = Pick<GenerateResult, 'usage' | 'timings' | 'finishReason'>

/**
 * Message of the tracing channels `moepp:generate` (also of `stream` and chats), `moepp:forward`
 * and `moepp:score`, for each call. `start` comes when the prompts are tokenized and the work
 * begins, `asyncEnd` when it has ended, and `error` before that if it failed. All events of a call
 * carry the same object. It never holds a prompt, a text or token ids.
 *
 * @example
 * ```ts
 * import { subscribe } from 'node:diagnostics_channel'
 * import type { CallTrace } from 'moepp'
 *
 * subscribe('tracing:moepp:generate:asyncEnd', message => {
 *   const { call, promptTokens, results = [], ms, error } = message as CallTrace
 *   if (error) return console.error(`${call}: ${error}`)
 *   const generated = results.reduce((sum, { usage }) => sum + usage.generatedTokens, 0)
 *   const reasons = results.map(({ finishReason }) => finishReason).join()
 *   console.log(`${call}: ${promptTokens} + ${generated} tokens, ${ms?.toFixed()} ms, ${reasons}`)
 * })
 * ```
 */
export interface CallTrace {
  /** The method of the model that was called. */
  readonly call: 'generate' | 'stream' | 'chat' | 'streamChat' | 'forward' | 'score'
  /** Device that the model runs on: `cpu` or `cuda:0`. */
  readonly device: string
  /** Texts that the call computes. */
  readonly sequences: number
  /** Tokens of their prompts together; of `score` with those of the continuation. */
  readonly promptTokens: number
  /** Once a call that generates has ended: one entry for each text. */
  results?: readonly TracedResult[]
  /** Milliseconds that the call took, once it has ended; tokenizing is not part of it. */
  ms?: number
  /** The reason that the caller's promise rejects with, if it fails. */
  error?: unknown
}

type Kind = 'load' | 'generate' | 'forward' | 'score'

// A runtime that lacks tracing channels lacks these messages, and nothing else.
const channelOf = (kind: Kind) => diagnostics.tracingChannel?.(`moepp:${kind}`)
const channels = {
  load: channelOf('load'),
  generate: channelOf('generate'),
  forward: channelOf('forward'),
  score: channelOf('score'),
}

/** Runs a call, and publishes its start and end if somebody listens. */
export function traced<Trace extends LoadTrace | CallTrace, T>(
  kind: Kind,
  traceOf: () => Trace,
  run: () => Promise<T>,
  outcomeOf: (result: T) => Partial<Trace> = () => ({}),
): Promise<T> {
  const channel = channels[kind]
  if (!channel?.hasSubscribers) return run()
  const trace = traceOf()
  const begun = performance.now()
  let result: T
  // The result itself holds text: subscribers get what `outcomeOf` says of it.
  const withoutResult = async () => {
    try {
      result = await run()
      Object.assign(trace, outcomeOf(result))
    } finally {
      trace.ms = performance.now() - begun
    }
  }
  return channel.tracePromise(withoutResult, trace).then(() => result)
}

/** A source as a message may show it: a URL may hold a password. */
export function publicSource(source: unknown): string {
  return String(source).replace(/\/\/[^/@]*@/, '//')
}
