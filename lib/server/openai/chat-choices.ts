/** The choices of a chat's answer, whole or in pieces. */
import type { ChatChunk, ChatResult } from '../../generation/chat-results.js'
import type { ChunkRouting } from '../../generation/results.js'
import type { TokenLogprob, TokenLogprobs } from '../../sampling/sampler.js'
import type { ToolCall } from '../../template/messages.js'
import type { Tokenizer } from '../../tokenizer/tokenizer.js'
import { randomId } from './answer.js'
import { routingField, type Told } from './routing.js'
import { finite, tokenBytes, tokenText } from './token-text.js'

type ChatFinishReason = 'stop' | 'length' | 'tool_calls'

/** One choice. Pieces come in order: `start`, chunks, `end`. */
export class ChatChoice {
  readonly #index: number
  readonly #tokenizer: Tokenizer
  readonly #returnRouting: boolean
  /** Calls of tools so far. */
  #calls = 0

  constructor(index: number, tokenizer: Tokenizer, returnRouting: boolean) {
    this.#index = index
    this.#tokenizer = tokenizer
    this.#returnRouting = returnRouting
  }

  whole(result: ChatResult & Told): object {
    const { content, reasoning, toolCalls = [] } = result.message
    return {
      index: this.#index,
      message: {
        role: 'assistant',
        content: content === '' && toolCalls.length > 0 ? null : content,
        refusal: null,
        ...(reasoning !== undefined && { reasoning_content: reasoning }),
        ...(toolCalls.length > 0 && { tool_calls: toolCalls.map(openAiCall) }),
      },
      logprobs: this.#logprobs(result.logprobs),
      finish_reason: finishReason(result),
      ...this.#routing(result.told),
    }
  }

  start(): object {
    return this.#piece({ role: 'assistant', content: '', refusal: null })
  }

  chunk({ reasoning, content, toolCalls = [], logprobs, routing }: ChatChunk): object {
    const calls = toolCalls.map(call => ({ index: this.#calls++, ...openAiCall(call) }))
    const delta = {
      ...(reasoning !== undefined && { reasoning_content: reasoning }),
      ...(content !== undefined && { content }),
      ...(calls.length > 0 && { tool_calls: calls }),
    }
    return { ...this.#piece(delta, logprobs), ...this.#routing(routing) }
  }

  end(result: ChatResult): object {
    return { ...this.#piece({}), finish_reason: finishReason(result) }
  }

  #routing(routing: ChunkRouting | undefined): object {
    return this.#returnRouting && routing ? { routing: routingField(routing) } : {}
  }

  #piece(delta: object, logprobs?: readonly TokenLogprobs[]): object {
    return {
      index: this.#index,
      delta,
      logprobs: this.#logprobs(logprobs),
      finish_reason: null,
    }
  }

  #logprobs(entries: readonly TokenLogprobs[] | undefined): object | null {
    if (entries === undefined) return null
    const content = entries.map(entry => ({
      ...this.#described(entry),
      top_logprobs: entry.top.map(each => this.#described(each)),
    }))
    return { content, refusal: null }
  }

  #described({ tokenId, logprob }: TokenLogprob) {
    return {
      token: tokenText(this.#tokenizer, tokenId),
      logprob: finite(logprob),
      bytes: tokenBytes(this.#tokenizer, tokenId),
    }
  }
}

/** An answer that was cut may have a call that was. */
function finishReason({ message, finishReason: reason }: ChatResult): ChatFinishReason {
  if (reason !== 'stop') return 'length'
  return message.toolCalls ? 'tool_calls' : 'stop'
}

/** An invalid call is passed on as the model wrote it. */
function openAiCall({ name, arguments: given }: ToolCall) {
  return {
    id: randomId('call'),
    type: 'function',
    function: { name, arguments: typeof given === 'string' ? given : JSON.stringify(given) },
  }
}
