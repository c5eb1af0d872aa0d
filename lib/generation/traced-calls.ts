/** The calls of a Model as tracing channels show them. */
import type { ModelDevice } from '../addon/device.js'
import { type CallTrace, traced } from './diagnostics.js'
import type { Job } from './job.js'
import type { GenerateResult } from './results.js'

/** The message of a call that begins. */
export function traceOf(
  call: CallTrace['call'],
  device: ModelDevice,
  texts: readonly { readonly promptTokens: number }[],
): CallTrace {
  const promptTokens = texts.reduce((sum, text) => sum + text.promptTokens, 0)
  return { call, device: device.name, sequences: texts.length, promptTokens }
}

export function tracedGenerate(
  trace: () => CallTrace,
  run: () => Promise<GenerateResult[]>,
): Promise<GenerateResult[]> {
  return traced('generate', trace, run, results => ({ results: results.map(outcomeOf) }))
}

export function tracedStream(
  trace: () => CallTrace,
  start: () => Job<GenerateResult>,
): Job<GenerateResult> {
  let job: Job<GenerateResult> | undefined
  const run = () => {
    job = start()
    return job.done
  }
  const done = traced('generate', trace, run, result => ({ results: [outcomeOf(result)] }))
  return { done, cancel: () => job?.cancel() }
}

/** Everything but text, tokens and what belongs to single tokens. */
function outcomeOf({ usage, timings, finishReason }: GenerateResult) {
  return { usage, timings, finishReason }
}
