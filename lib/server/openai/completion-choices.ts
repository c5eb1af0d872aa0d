/** The choices of a completion's answer, whole or in pieces. */
import { TimeSlice } from '../../base/time-slice.js'
import type { ChunkRouting, GenerateChunk, GenerateResult } from '../../generation/results.js'
import type { TokenLogprobs } from '../../sampling/sampler.js'
import type { Tokenizer } from '../../tokenizer/tokenizer.js'
import {
  codePoints,
  joined,
  type LogprobLists,
  LogprobWriter,
  promptLists,
  promptText,
} from './completion-logprobs.js'
import type { CompletionRequest } from './completion-request.js'
import { type PromptLogprobs, promptLogprobsById } from './prompt-logprobs.js'
import type { EncodedPrompt } from './prompts.js'
import { type RoutingField, routingField, type Told } from './routing.js'

export interface CompletionChoice {
  readonly index: number
  readonly text: string
  readonly logprobs: LogprobLists | null
  /** null until the last piece. */
  readonly finish_reason: string | null
  readonly prompt_logprobs?: PromptLogprobs
  readonly routing?: RoutingField
}

/**
 * The choices of all prompts. `results` has those of each prompt one behind the other. The first of
 * them has the prompt's log-probabilities.
 */
export async function completionChoices(
  request: CompletionRequest,
  prompts: readonly EncodedPrompt[],
  results: readonly (GenerateResult & Told)[],
  tokenizer: Tokenizer,
): Promise<CompletionChoice[]> {
  const { n, bestOf } = request
  const slice = new TimeSlice()
  const choices: CompletionChoice[] = []
  for (const [p, prompt] of prompts.entries()) {
    const all = results.slice(p * bestOf, (p + 1) * bestOf)
    const { promptLogprobs } = all[0]!
    const best = bestOf > n ? all.toSorted((a, b) => meanLogprob(b) - meanLogprob(a)) : all
    for (const result of best.slice(0, n)) {
      const pieces = new ChoicePieces(request, prompt, choices.length, tokenizer)
      choices.push(pieces.whole({ ...result, ...(promptLogprobs && { promptLogprobs }) }))
      await slice.pauseIfOver()
    }
  }
  return choices
}

function meanLogprob({ logprobs = [] }: GenerateResult): number {
  return logprobs.reduce((sum, { logprob }) => sum + logprob, 0) / Math.max(1, logprobs.length)
}

/** One choice, piece by piece. */
export class ChoicePieces {
  readonly #request: CompletionRequest
  readonly #prompt: EncodedPrompt
  readonly #index: number
  readonly #tokenizer: Tokenizer
  readonly #promptText: string
  readonly #writer: LogprobWriter

  constructor(
    request: CompletionRequest,
    prompt: EncodedPrompt,
    index: number,
    tokenizer: Tokenizer,
  ) {
    this.#request = request
    this.#prompt = prompt
    this.#index = index
    this.#tokenizer = tokenizer
    this.#promptText = request.echo ? (prompt.given ?? promptText(tokenizer, prompt.ids)) : ''
    this.#writer = new LogprobWriter(tokenizer, prompt.ids, codePoints(this.#promptText))
  }

  whole(result: GenerateResult & Told): CompletionChoice {
    const { text, finishReason, logprobs, promptLogprobs, told } = result
    const { promptLogprobs: count } = this.#request
    const choice = this.#choice(this.#promptText + text, finishReason)
    const ofPrompt = this.#promptLists(promptLogprobs)
    const lists = this.#lists(logprobs)
    return {
      ...choice,
      logprobs: ofPrompt && lists ? joined(ofPrompt, lists) : lists,
      ...(count !== undefined && {
        prompt_logprobs: promptLogprobsById(result, count, this.#tokenizer),
      }),
      ...this.#routing(told),
    }
  }

  /** The prompt, of an answer that echoes it. */
  echo(logprobs: readonly (TokenLogprobs | null)[] | undefined): CompletionChoice {
    return { ...this.#choice(this.#promptText, null), logprobs: this.#promptLists(logprobs) }
  }

  chunk({ text, logprobs, routing }: GenerateChunk): CompletionChoice {
    const lists = this.#lists(logprobs)
    return { ...this.#choice(text, null), logprobs: lists, ...this.#routing(routing) }
  }

  end({ finishReason }: GenerateResult): CompletionChoice {
    return this.#choice('', finishReason)
  }

  #choice(text: string, finishReason: string | null): CompletionChoice {
    return { index: this.#index, text, logprobs: null, finish_reason: finishReason }
  }

  #routing(routing: ChunkRouting | undefined): { routing?: RoutingField } {
    return this.#request.returnRouting && routing ? { routing: routingField(routing) } : {}
  }

  #lists(logprobs: readonly TokenLogprobs[] | undefined): LogprobLists | null {
    if (this.#request.logprobs === undefined) return null
    return this.#writer.lists(logprobs ?? [])
  }

  #promptLists(logprobs: readonly (TokenLogprobs | null)[] | undefined): LogprobLists | null {
    const { echo, logprobs: count } = this.#request
    if (!echo || count === undefined) return null
    const entries = logprobs!.map(entry => entry && { ...entry, top: entry.top.slice(0, count) })
    return promptLists(this.#tokenizer, this.#prompt.ids, entries)
  }
}
