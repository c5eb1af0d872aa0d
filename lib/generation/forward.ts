/** All logits of a text, its routing, and captured buffers. */
import { checkAll } from '../base/option-checks.js'
import type { Engine } from '../engine/engine.js'
import type { SequenceConsumer } from '../engine/sequence.js'
import type { Router } from '../program/model-spec.js'
import type { TopLogits } from '../sampling/top-logits.js'
import type { CallContext } from './call-context.js'
import { FORWARD_CHECKS, type ForwardOptions } from './call-options.js'
import { CaptureRecorder } from './capture.js'
import { traced } from './diagnostics.js'
import { aborted, type Job, settleAll, throwIfAborted } from './job.js'
import { checkLength, checkTokenIds, emptyPrompt, splitBatch, type TokenIds } from './prompt.js'
import type { ForwardResult } from './results.js'
import { RoutingRecorder, routingNames } from './routing.js'
import { traceOf } from './traced-calls.js'

/** Model.forward. */
export async function forward(
  { engine, device, captureNames, prompts: context, positions }: CallContext,
  tokens: TokenIds | readonly TokenIds[],
  options: ForwardOptions,
): Promise<ForwardResult | ForwardResult[]> {
  const { signal, ...wanted } = checkAll(options, FORWARD_CHECKS, captureNames)
  const { prompts, isBatch, name } = splitBatch(tokens, 'tokens')
  const { vocabSize } = context
  const ids = prompts.map((each, i) => {
    const checked = checkTokenIds(each, name(i), vocabSize)
    if (checked.length === 0) throw emptyPrompt(name(i))
    checkLength(checked.length, name(i), context)
    return checked
  })
  throwIfAborted(signal)
  const texts = ids.map(each => new Forward(each, wanted, vocabSize, engine.routers))
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

interface Wanted {
  readonly capture?: readonly string[]
  readonly logits?: boolean
  readonly routing?: boolean
}

class Forward implements SequenceConsumer {
  readonly #tokens: readonly number[]
  readonly #capture: readonly string[]
  /** [T, vocabSize]; empty if they are not wanted. */
  readonly #logits: Float32Array
  readonly #recorder = new CaptureRecorder()
  readonly #routing: RoutingRecorder | undefined
  readonly #routingNames: readonly string[]

  constructor(
    tokens: readonly number[],
    { capture = [], logits = true, routing = false }: Wanted,
    vocabSize: number,
    routers: readonly Router[],
  ) {
    this.#tokens = tokens
    this.#capture = capture
    this.#logits = new Float32Array(logits ? tokens.length * vocabSize : 0)
    if (routing) this.#routing = new RoutingRecorder(routing, routers)
    this.#routingNames = routing ? routingNames(routers) : []
  }

  get promptTokens(): number {
    return this.#tokens.length
  }

  start(engine: Engine, signal: AbortSignal | undefined): Job<ForwardResult> {
    const hasLogits = this.#logits.length > 0
    const { done, cancel } = engine.submit({
      tokens: this.#tokens,
      // A step ends with some logits of its last token: the largest cost least.
      ...(hasLogits ? { logitsFrom: 0 } : { logitsFrom: this.#tokens.length - 1, top: 'logits' }),
      // The recorder takes a layer's indices before its weights.
      capture: [...new Set([...this.#routingNames, ...this.#capture])],
      consumer: this,
    })
    const result = done.then(({ cancelled }) => {
      if (cancelled) throw aborted(signal)
      const routing = this.#routing?.result()
      return { logits: this.#logits, captured: this.#captured(), ...(routing && { routing }) }
    })
    return { done: result, cancel }
  }

  suffices(): boolean {
    return true
  }

  next(position: number, logits: Float32Array | TopLogits): undefined {
    if (logits instanceof Float32Array && this.#logits.length > 0)
      this.#logits.set(logits, position * logits.length)
  }

  captured(name: string, rows: Int32Array | Float32Array, position: number): void {
    if (this.#routingNames.includes(name)) this.#routing!.add(name, rows, position)
    if (this.#capture.includes(name)) this.#recorder.add(name, rows)
  }

  #captured(): ForwardResult['captured'] {
    return Object.fromEntries(this.#capture.map(name => [name, this.#recorder.rows(name)!]))
  }
}
