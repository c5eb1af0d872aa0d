/** All logits of a text, and captured buffers. */
import type { Engine } from '../engine/engine.js'
import type { SequenceConsumer } from '../engine/sequence.js'
import { CaptureRecorder } from './capture.js'
import { aborted, type Job } from './job.js'
import type { ForwardResult } from './results.js'

export class Forward implements SequenceConsumer {
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
