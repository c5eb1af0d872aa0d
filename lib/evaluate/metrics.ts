/** Metrics and their standard errors: lm_eval/api/metrics.py and process_results of api/task.py. */

import { TimeSlice } from '../base/time-slice.js'
import { PythonRandom } from './python-random.js'

export interface Metric {
  readonly name: string
  readonly value: number
  /** null where the harness has none either. */
  readonly stderr: number | null
}

/** Result of one pair of texts. */
export interface Likelihood {
  readonly logprob: number
  /** True if each token was the likeliest. */
  readonly isGreedy: boolean
}

/** Index of the largest value, the first one on ties. NaN counts as largest, as in NumPy. */
export function argmax(values: readonly number[]): number {
  const nan = values.findIndex(Number.isNaN)
  return nan >= 0 ? nan : values.indexOf(Math.max(...values))
}

/** 1 if the likeliest choice is the right one; 0 otherwise. */
export function accuracyOf(logprobs: readonly number[], gold: number): number {
  return argmax(logprobs) === gold ? 1 : 0
}

/** A mean, with the standard error of the sample; null for one value. */
export function meanMetric(name: string, values: readonly number[]): Metric {
  const stderr = values.length > 1 ? sampleDeviation(values) / Math.sqrt(values.length) : null
  return { name, value: mean(values), stderr }
}

/** exp(-mean) of documents' log-probabilities. Its standard error is the harness's bootstrap. */
export async function perplexityMetric(
  name: string,
  logprobs: readonly number[],
  signal?: AbortSignal,
): Promise<Metric> {
  const value = Math.exp(-mean(logprobs))
  if (logprobs.length < 2) return { name, value, stderr: null }
  return { name, value, stderr: await bootstrapError(logprobs, signal) }
}

/** Samples with replacement that the harness takes, and those that one seed gives. */
const SAMPLES = 100_000
const SAMPLES_OF_SEED = 1000

/** Standard deviation of the perplexity over random samples of the documents. */
async function bootstrapError(logprobs: readonly number[], signal?: AbortSignal): Promise<number> {
  const slice = new TimeSlice()
  const perplexities: number[] = []
  for (let seed = 0; seed < SAMPLES / SAMPLES_OF_SEED; seed++) {
    const random = new PythonRandom(seed)
    for (let i = 0; i < SAMPLES_OF_SEED; i++) {
      perplexities.push(Math.exp(-sampledMean(logprobs, random)))
      await slice.pauseIfOver()
      signal?.throwIfAborted()
    }
  }
  return sampleDeviation(perplexities)
}

function sampledMean(values: readonly number[], random: PythonRandom): number {
  const count = values.length
  let sum = 0
  for (let i = 0; i < count; i++) sum += values[Math.floor(random.random() * count)]!
  return sum / count
}

/** Sizes of a whole text, by which its log-probability is divided. */
export interface TextSize {
  readonly tokens: number
  readonly words: number
  readonly bytes: number
}

/**
 * Of texts with the sums of their log-probabilities. The harness has all but token_perplexity,
 * which depends on the tokenizer.
 */
export function textMetrics(logprobs: readonly number[], sizes: readonly TextSize[]): Metric[] {
  const total = sum(logprobs)
  const per = (unit: keyof TextSize) => total / sum(sizes.map(size => size[unit]))
  return [
    { name: 'word_perplexity', value: Math.exp(-per('words')), stderr: null },
    { name: 'byte_perplexity', value: Math.exp(-per('bytes')), stderr: null },
    { name: 'bits_per_byte', value: -per('bytes') / Math.LN2, stderr: null },
    { name: 'token_perplexity', value: Math.exp(-per('tokens')), stderr: null },
  ]
}

/** The mean over all documents of several tasks, with the standard error that is pooled. */
export function pooledMetric(
  name: string,
  parts: readonly { readonly metric: Metric; readonly documents: number }[],
): Metric {
  const documents = sum(parts.map(part => part.documents))
  const value = sum(parts.map(part => part.metric.value * part.documents)) / documents
  if (parts.some(({ metric }) => metric.stderr === null)) return { name, value, stderr: null }
  const variances = parts.map(({ metric, documents: n }) => (n - 1) * metric.stderr! ** 2 * n)
  const pooled = sum(variances) / (documents - parts.length)
  return { name, value, stderr: Math.sqrt(pooled / documents) }
}

function sampleDeviation(values: readonly number[]): number {
  const middle = mean(values)
  return Math.sqrt(sum(values.map(x => (x - middle) ** 2)) / (values.length - 1))
}

function mean(values: readonly number[]): number {
  return sum(values) / values.length
}

function sum(values: readonly number[]): number {
  return values.reduce((total, x) => total + x, 0)
}
