/** All logits of a text, and captured buffers. */
import { checkAll } from '../base/option-checks.js'
import type { Engine } from '../engine/engine.js'
import type { SequenceConsumer } from '../engine/sequence.js'
import type { CallContext } from './call-context.js'
import { FORWARD_CHECKS, type ForwardOptions } from './call-options.js'
import { CaptureRecorder } from './capture.js'
import { traced } from './diagnostics.js'
import { aborted, type Job, settleAll, throwIfAborted } from './job.js'
import { checkLength, checkTokenIds, emptyPrompt, splitBatch, type TokenIds } from './prompt.js'
import type { ForwardResult } from './results.js'
import { traceOf } from './traced-calls.js'

/** Model.forward. */
export async function forward(
  { engine, device, captureNames, prompts: context, positions }: CallContext,
  tokens: TokenIds | readonly TokenIds[],
  options: ForwardOptions,
): Promise<ForwardResult | ForwardResult[]> {
  const { capture = [], signal } = checkAll(options, FORWARD_CHECKS, captureNames)
  const { prompts, isBatch, name } = splitBatch(tokens, 'tokens')
  const { vocabSize } = context
  const ids = prompts.map((each, i) => {
    const checked = checkTokenIds(each, name(i), vocabSize)
    if (checked.length === 0) throw emptyPrompt(name(i))
    checkLength(checked.length, name(i), context)
    return checked
  })
  throwIfAborted(signal)
  const texts = ids.map(each => new Forward(each, capture, vocabSize))
  for (const { promptTokens } of texts) positions.note(promptTokens)
  const results = await traced(
    'forward',
    () => traceOf('forward', device, texts),
    () =>
      settleAll(
        texts.map(text => text.start(engine, signal)),
        signal,
      ),
  )
  return isBatch ? results : results[0]!
}

class Forward implements SequenceConsumer {
  readonly #tokens: readonly number[]
  readonly #capture: readonly string[]
  readonly #logits: Float32Array
  readonly #recorder = new CaptureRecorder()

  constructor(tokens: readonly number[], capture: readonly string[], vocabSize: number) {
    this.#tokens = tokens
    this.#capture = capture
    this.#logits = new Float32Array(tokens.length * vocabSize)
  }

  get promptTokens(): number {
    return this.#tokens.length
  }

  start(engine: Engine, signal: AbortSignal | undefined): Job<ForwardResult> {
    const { done, cancel } = engine.submit({
      tokens: this.#tokens,
      logitsFrom: 0,
      capture: this.#capture,
      consumer: this,
    })
    const result = done.then(({ cancelled }) => {
      if (cancelled) throw aborted(signal)
      return { logits: this.#logits, captured: this.#captured() }
    })
    return { done: result, cancel }
  }

  next(position: number, logits: Float32Array): undefined {
    this.#logits.set(logits, position * logits.length)
  }

  captured(name: string, rows: Int32Array | Float32Array): void {
    this.#recorder.add(name, rows)
  }

  #captured(): ForwardResult['captured'] {
    return Object.fromEntries(this.#capture.map(name => [name, this.#recorder.rows(name)!]))
  }
}
