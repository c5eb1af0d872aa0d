/** A loaded model: what `loadModel` returns. */

import type { ModelDevice } from '../addon/device.js'
import type { ChatOptions } from '../chat/chat-options.js'
import { Engine } from '../engine/engine.js'
import type { ModelStats } from '../engine/stats.js'
import type { ModelConfig } from '../families/family.js'
import type { GenerateOptions } from '../options/generate.js'
import type { ChatMessage } from '../template/messages.js'
import type { Tokenizer } from '../tokenizer/tokenizer.js'
import type { CallContext } from './call-context.js'
import type { ForwardOptions, ScoreOptions } from './call-options.js'
import { ChatCalls } from './chat.js'
import type { ChatChunk, ChatResult } from './chat-results.js'
import { forward } from './forward.js'
import { Membership, type ModelRank } from './membership.js'
import type { ModelParts } from './model-parts.js'
import { PositionWarning } from './positions.js'
import { noTokenizer, type Prompt, type TokenIds } from './prompt.js'
import type { ForwardResult, GenerateResult, ScoreResult } from './results.js'
import { score } from './scoring.js'
import {
  type LoadedState,
  type LoadStateOptions,
  type SavedState,
  type SaveStateOptions,
  StateFiles,
} from './state.js'
import type { GenerationStream } from './stream.js'
import { TextCalls } from './text-calls.js'

/**
 * A loaded model, as `loadModel` returns it.
 *
 * Several calls at once are computed together, and do not change each other's results. Close a
 * model when it is no longer needed: `await using` does it at the end of a block.
 *
 * @example
 * ```ts
 * import { loadModel } from 'moepp'
 *
 * const model = await loadModel('npm:moepp-books-7m')
 * const { text } = await model.generate('The old man', { maxNewTokens: 40 })
 * console.log(text)
 * await model.close()
 * ```
 */
export class Model {
  /** Sizes and flags of the model, from its config.json. */
  readonly config: ModelConfig
  /** Device that the model runs on, and the reason if `device: 'auto'` did not take a GPU. */
  readonly device: ModelDevice
  /** Options of generation that the checkpoint's generation_config.json sets; a call's win. */
  readonly presets: Readonly<Partial<GenerateOptions>>
  /** Most tokens of one sequence, prompt and text together: the context's, or the KV cache's. */
  readonly contextLength: number
  /** The place of this process in the group of the option `parallel`. */
  readonly parallel: ModelRank | undefined
  readonly #membership: Membership | undefined
  readonly #calls: CallContext
  readonly #states: StateFiles
  readonly #texts: TextCalls
  #chatCalls: ChatCalls | undefined

  constructor({ runner, config, generation, tokenizer, lockstep }: ModelParts) {
    this.config = config
    this.device = runner.device
    const engine = new Engine(runner)
    this.#membership = lockstep && new Membership(engine, lockstep)
    const { contextLength, captureNames } = runner
    const { vocabSize } = config
    this.#calls = {
      engine,
      texts: this.#membership?.texts ?? { start: text => text.start(engine) },
      device: this.device,
      captureNames,
      prompts: { tokenizer, vocabSize, contextLength, maxTokens: engine.maxTokens },
      positions: new PositionWarning(config),
    }
    this.#states = new StateFiles(this.#calls, runner)
    this.#texts = new TextCalls(this.#calls, config, generation)
    this.presets = this.#texts.presets
    this.contextLength = engine.maxTokens
    this.parallel = this.#membership?.place
    this.#membership?.begin(this.#texts, () => this.#close())
  }

  /**
   * The tokenizer of the checkpoint.
   * @throws MoeppError ERR_BAD_TOKENIZER if the checkpoint has none
   */
  get tokenizer(): Tokenizer {
    const { tokenizer } = this.#calls.prompts
    if (!tokenizer) throw noTokenizer('text')
    return tokenizer
  }

  /**
   * Continues a prompt, or each of an array of prompts.
   *
   * One prompt gives one result, unless `numReturnSequences` is given. An array gives an array, in
   * order, with `numReturnSequences` results for each prompt. A prompt in a batch gives the same
   * result as alone. Without a seed, each prompt has one of its own.
   *
   * An abort does not reject: the result has what was generated, and finishReason 'abort'.
   *
   * @param prompt a text, token ids, or an array of either
   * @throws MoeppError ERR_BAD_PROMPT, ERR_BAD_TOKENIZER, ERR_CLOSED, ERR_DEVICE,
   *   ERR_OUT_OF_MEMORY; TypeError or RangeError for a wrong argument; what the option `logits`
   *   throws
   *
   * @example
   * ```ts
   * import { loadModel } from 'moepp'
   *
   * const model = await loadModel('npm:moepp-books-7m')
   * const { text, finishReason, usage } = await model.generate('The old man', {
   *   temperature: 0.8,
   *   maxNewTokens: 40,
   * })
   * console.log(text, finishReason, usage.generatedTokens)
   * for (const result of await model.generate(['The old', 'She said'])) console.log(result.text)
   * ```
   */
  generate(
    prompt: Prompt,
    options: GenerateOptions & { numReturnSequences: number },
  ): Promise<GenerateResult[]>
  generate(prompt: Prompt, options?: GenerateOptions): Promise<GenerateResult>
  generate(prompts: readonly Prompt[], options?: GenerateOptions): Promise<GenerateResult[]>
  generate(
    prompt: Prompt | readonly Prompt[],
    options?: GenerateOptions,
  ): Promise<GenerateResult | GenerateResult[]>
  async generate(
    prompt: Prompt | readonly Prompt[],
    options: GenerateOptions = {},
  ): Promise<GenerateResult | GenerateResult[]> {
    this.#checkOpen()
    return this.#texts.generate(prompt, options)
  }

  /**
   * Continues one prompt, piece by piece. Leaving the loop cancels the generation, and an abort
   * ends the loop.
   *
   * @throws as generate: for wrong arguments at once, for all else while it is read
   *
   * @example
   * ```ts
   * import { loadModel } from 'moepp'
   *
   * const model = await loadModel('npm:moepp-books-7m')
   * for await (const { text } of model.stream('The old man', { temperature: 0.8 })) {
   *   process.stdout.write(text)
   * }
   * ```
   */
  stream(prompt: Prompt, options: GenerateOptions = {}): GenerationStream {
    this.#checkOpen()
    return this.#texts.stream(prompt, options)
  }

  /**
   * The answer to a conversation, by the checkpoint's chat template. Append the result's `message`
   * to the conversation, as it is, and the next turn computes its new tokens alone.
   *
   * A template may drop the thoughts of earlier answers. Then the text behind the first thoughts
   * that were dropped is computed again: mostly one answer without its thoughts.
   *
   * Special tokens in messages are ordinary characters: a user who writes `<|im_end|>` ends no
   * turn. An abort does not reject: the result has what was generated, and finishReason 'abort'.
   *
   * @param messages the conversation; the last one is the user's or a tool's
   * @throws as generate; MoeppError ERR_NO_CHAT_TEMPLATE, ERR_BAD_TEMPLATE, ERR_BAD_GRAMMAR
   *
   * @example
   * ```ts
   * import { type ChatMessage, loadModel } from 'moepp'
   *
   * const model = await loadModel('./Qwen3-30B-A3B-MoE++')
   * const messages: ChatMessage[] = [{ role: 'user', content: 'Name a river in Norway.' }]
   * const { message, usage } = await model.chat(messages, { maxNewTokens: 300 })
   * console.log(message.reasoning, message.content, usage.cachedTokens)
   * messages.push(message, { role: 'user', content: 'How long is it?' })
   * console.log((await model.chat(messages)).message.content)
   * ```
   */
  async chat(messages: readonly ChatMessage[], options: ChatOptions = {}): Promise<ChatResult> {
    this.#checkOpen()
    return this.#chats().chat(messages, options)
  }

  /**
   * As `chat`, piece by piece. Leaving the loop cancels the answer, and an abort ends the loop.
   *
   * @throws as chat: for wrong arguments at once, for all else while it is read
   *
   * @example
   * ```ts
   * import { loadModel } from 'moepp'
   *
   * const model = await loadModel('./Qwen3-30B-A3B-MoE++')
   * const answer = model.streamChat([{ role: 'user', content: 'Name a river in Norway.' }])
   * for await (const { content = '' } of answer) process.stdout.write(content)
   * console.log((await answer.result).message.toolCalls)
   * ```
   */
  streamChat(
    messages: readonly ChatMessage[],
    options: ChatOptions = {},
  ): GenerationStream<ChatChunk, ChatResult> {
    this.#checkOpen()
    return this.#chats().stream(messages, options)
  }

  /**
   * The logits after every token of a text, and captured buffers. An array of texts gives an
   * array.
   *
   * @param tokens [T] token ids, at least one
   * @throws as generate; MoeppError ERR_ABORTED if the signal aborts
   *
   * @example
   * ```ts
   * import { loadModel } from 'moepp'
   *
   * const model = await loadModel('npm:moepp-books-7m')
   * const tokens = model.tokenizer.encode('The old man')
   * const capture = ['layers.0.router_logits']
   * const { logits, captured } = await model.forward(tokens, { capture })
   * const { vocabSize, experts } = model.config
   * console.log(logits.length === tokens.length * vocabSize)
   * console.log(captured['layers.0.router_logits']?.length === tokens.length * experts)
   * ```
   */
  forward(tokens: TokenIds, options?: ForwardOptions): Promise<ForwardResult>
  forward(tokens: readonly TokenIds[], options?: ForwardOptions): Promise<ForwardResult[]>
  async forward(
    tokens: TokenIds | readonly TokenIds[],
    options: ForwardOptions = {},
  ): Promise<ForwardResult | ForwardResult[]> {
    this.#checkOpen()
    return forward(this.#calls, tokens, options)
  }

  /**
   * The probability of each token of a continuation.
   *
   * Two texts are tokenized as one. The continuation gets the tokens from the first one on that
   * differs from the prompt's own. So a token that spans both counts as the continuation's, unlike
   * in lm-evaluation-harness. Token ids are taken as they are; a text next to ids is tokenized
   * alone.
   *
   * @throws as generate; MoeppError ERR_ABORTED if the signal aborts
   *
   * @example
   * ```ts
   * import { loadModel } from 'moepp'
   *
   * const model = await loadModel('npm:moepp-books-7m')
   * const { logprob, tokenIds } = await model.score('The old', ' man')
   * console.log(`perplexity ${Math.exp(-logprob / tokenIds.length)}`)
   * ```
   */
  async score(
    prompt: Prompt,
    continuation: Prompt,
    options: ScoreOptions = {},
  ): Promise<ScoreResult> {
    this.#checkOpen()
    return score(this.#calls, prompt, continuation, options)
  }

  /**
   * Writes the keys and values of a text to a file, from which `loadState` takes them back.
   *
   * Tokens that the KV cache does not hold are computed first. Other calls go on meanwhile. The
   * file replaces an older one once it is whole. It fits the same weights, types and instruction
   * set only. It holds the text's tokens: keep it as secret as the text.
   *
   * @param file path of the file; its folder must exist
   * @param prompt a text, token ids, or a conversation with the option `chat`
   * @throws as generate; MoeppError ERR_CANNOT_WRITE, ERR_ABORTED; ERR_NOT_FOUND or ERR_BAD_FILE if
   *   the checkpoint is gone
   *
   * @example
   * ```ts
   * import { loadModel } from 'moepp'
   *
   * const model = await loadModel('npm:moepp-books-7m')
   * const prompt = model.tokenizer.encode('The old man and the sea')
   * const { tokenIds } = await model.generate(prompt, { maxNewTokens: 40 })
   * const { tokens, bytes } = await model.saveState('sea.kv', [...prompt, ...tokenIds])
   * console.log(`${tokens} tokens in ${bytes} bytes`)
   * ```
   */
  async saveState(
    file: string,
    prompt: Prompt | readonly ChatMessage[],
    options: SaveStateOptions = {},
  ): Promise<SavedState> {
    this.#checkOpen()
    return this.#states.save(file, prompt, options, (messages, template, signal) =>
      this.#chats().tokenIds(messages, template, signal),
    )
  }

  /**
   * Reads a file of `saveState` into the KV cache. Prompts that begin with its tokens take them
   * over (`usage.cachedTokens`), with the same results as if they had computed them.
   *
   * The tokens stay in the cache until their room is needed, as those of earlier calls do. A
   * file can make any text follow its tokens: load only files of people you trust.
   *
   * @throws MoeppError ERR_NOT_FOUND; ERR_BAD_STATE if the file is damaged, or another model's;
   *   ERR_OUT_OF_MEMORY if the KV cache has no room for it; ERR_ABORTED, ERR_CLOSED, ERR_DEVICE
   *
   * @example
   * ```ts
   * import { loadModel } from 'moepp'
   *
   * const model = await loadModel('npm:moepp-books-7m')
   * await model.saveState('sea.kv', 'The old man and the sea')
   * const { tokenIds } = await model.loadState('sea.kv')
   * const more = model.tokenizer.encode(' was', { addSpecialTokens: false })
   * const { text, usage } = await model.generate([...tokenIds, ...more], { maxNewTokens: 40 })
   * console.log(text, usage.cachedTokens === tokenIds.length)
   * ```
   */
  async loadState(file: string, options: LoadStateOptions = {}): Promise<LoadedState> {
    this.#checkOpen()
    return this.#states.load(file, options)
  }

  /**
   * The model's current state and its counters since it was loaded. A call takes a few
   * microseconds. A closed model keeps its last figures.
   *
   * @example
   * ```ts
   * import { loadModel } from 'moepp'
   *
   * const model = await loadModel('npm:moepp-books-7m')
   * const { generatedTokens, kvPagesUsed, kvPagesTotal } = model.stats()
   * console.log(`${generatedTokens} tokens, ${kvPagesUsed} of ${kvPagesTotal} pages in use`)
   * ```
   */
  stats(): ModelStats {
    return this.#calls.texts.stats?.() ?? this.#calls.engine.stats()
  }

  /**
   * Ends all calls with ERR_CLOSED, waits for the step under way and frees everything. Closing
   * again does nothing more. Another rank of a group than 0 waits until rank 0 has closed.
   *
   * @example
   * ```ts
   * import { loadModel } from 'moepp'
   *
   * const model = await loadModel('npm:moepp-books-7m')
   * await model.close()
   * ```
   */
  close(): Promise<void> {
    return this.#membership?.served ?? this.#close()
  }

  /**
   * Closes the model at the end of a block.
   *
   * @example
   * ```ts
   * import { loadModel } from 'moepp'
   *
   * await using model = await loadModel('npm:moepp-books-7m')
   * console.log((await model.generate('The old man')).text)
   * ```
   */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  #close(): Promise<void> {
    this.#texts.close()
    return this.#calls.engine.close()
  }

  #chats(): ChatCalls {
    this.#chatCalls ??= new ChatCalls(this.#texts, this.tokenizer, this.#calls.prompts)
    return this.#chatCalls
  }

  #checkOpen(): void {
    this.#membership?.checkLeads()
    this.#calls.engine.checkOpen()
  }
}
