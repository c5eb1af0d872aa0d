/** The probability of a text after another. */
import { checkAll } from '../base/option-checks.js'
import type { Engine } from '../engine/engine.js'
import type { SequenceConsumer } from '../engine/sequence.js'
import { type ScoredLogits, scoredLogprobs } from '../sampling/sampler.js'
import type { CallContext } from './call-context.js'
import { SCORE_CHECKS, type ScoreOptions } from './call-options.js'
import { traced } from './diagnostics.js'
import { aborted, type Job, settle, throwIfAborted } from './job.js'
import {
  checkLength,
  checkTokenIds,
  type EncodeHow,
  emptyPrompt,
  encode,
  type Prompt,
  type PromptContext,
} from './prompt.js'
import type { ScoreResult } from './results.js'
import { traceOf } from './traced-calls.js'

/** Model.score. */
export async function score(
  { engine, device, prompts, positions }: CallContext,
  prompt: Prompt,
  continuation: Prompt,
  options: ScoreOptions,
): Promise<ScoreResult> {
  const how = checkAll(options, SCORE_CHECKS, undefined)
  const { signal } = how
  const ids = await scoredIds(prompt, continuation, prompts, how)
  if (ids.prompt.length === 0) throw emptyPrompt('prompt')
  if (ids.continuation.length === 0) throw emptyPrompt('continuation')
  const computed = ids.prompt.length + ids.continuation.length - 1
  checkLength(computed, 'prompt and continuation', prompts)
  throwIfAborted(signal)
  const text = new Scoring(ids.prompt, ids.continuation)
  positions.note(computed)
  return traced(
    'score',
    () => traceOf('score', device, [text]),
    () => settle(text.start(engine, signal), signal),
  )
}

class Scoring implements SequenceConsumer {
  readonly #prompt: readonly number[]
  readonly #continuation: number[]
  readonly #logprobs: number[] = []
  readonly #greedy: boolean[] = []

  /** Both hold a token at least. */
  constructor(prompt: readonly number[], continuation: number[]) {
    this.#prompt = prompt
    this.#continuation = continuation
  }

  /** Both together. */
  get promptTokens(): number {
    return this.#prompt.length + this.#continuation.length
  }

  start(engine: Engine, signal: AbortSignal | undefined): Job<ScoreResult> {
    // The logits after the last token are not needed.
    const tokens = [...this.#prompt, ...this.#continuation.slice(0, -1)]
    const { done, cancel } = engine.submit({
      tokens,
      logitsFrom: this.#prompt.length - 1,
      scoredTo: tokens.length,
      capture: [],
      consumer: this,
    })
    const result = done.then(({ cancelled }) => {
      if (cancelled) throw aborted(signal)
      return this.#result()
    })
    return { done: result, cancel }
  }

  next(position: number, logits: ScoredLogits): undefined {
    const token = this.#continuation[position + 1 - this.#prompt.length]!
    this.#logprobs.push(scoredLogprobs(logits, token, 0).logprob)
    this.#greedy.push(logits.ids[0] === token)
  }

  #result(): ScoreResult {
    return {
      tokenIds: this.#continuation,
      logprobs: this.#logprobs,
      greedy: this.#greedy,
      logprob: this.#logprobs.reduce((sum, logprob) => sum + logprob, 0),
    }
  }
}

interface ScoredIds {
  readonly prompt: number[]
  readonly continuation: number[]
}

/**
 * Token ids of a text and of its continuation, as Model.score splits them.
 * @throws TypeError, RangeError; MoeppError ERR_BAD_PROMPT, ERR_BAD_TOKENIZER, ERR_ABORTED
 */
async function scoredIds(
  prompt: Prompt,
  continuation: Prompt,
  context: PromptContext,
  how: EncodeHow,
): Promise<ScoredIds> {
  // The logits after the last token are not needed.
  const most = context.maxTokens + 1
  const ids = (text: Prompt, name: string, own = how, maxTokens = most) =>
    typeof text === 'string'
      ? encode(text, name, context, own, maxTokens)
      : checkTokenIds(text, name, context.vocabSize)
  if (typeof prompt !== 'string' || typeof continuation !== 'string') {
    const more = typeof prompt === 'string' ? how : { ...how, addSpecialTokens: false }
    return {
      prompt: await ids(prompt, 'prompt'),
      continuation: await ids(continuation, 'continuation', more),
    }
  }
  const whole = await ids(prompt + continuation, 'prompt and continuation')
  // Alone, it may have more tokens than together with the following text.
  const alone = await ids(prompt, 'prompt', how, Number.MAX_SAFE_INTEGER)
  const differs = whole.findIndex((id, i) => id !== alone[i])
  const border = differs === -1 ? whole.length : differs
  return { prompt: whole.slice(0, border), continuation: whole.slice(border) }
}
