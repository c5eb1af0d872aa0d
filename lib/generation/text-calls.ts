/** `generate` and `stream`, and what chats begin their texts with. */
import { TimeSlice } from '../base/time-slice.js'
import type { ModelConfig } from '../families/family.js'
import { type GrammarLease, Grammars } from '../grammar/grammars.js'
import type { CallLoad } from '../options/admission.js'
import {
  type GenerateOptions,
  type ResolvedOptions,
  resolveGenerateOptions,
} from '../options/generate.js'
import { randomSeed } from '../sampling/rng.js'
import type { CallContext } from './call-context.js'
import { type GenerationConfig, presetsOf } from './generation-config.js'
import { deferred, type Job, settleAll, unlessAborted } from './job.js'
import { checkPrompt, noTokenizer, type Prompt, promptIds, splitBatch } from './prompt.js'
import type { GenerateChunk, GenerateResult } from './results.js'
import { GenerationStream } from './stream.js'
import { type PortableText, TextGeneration, type TextGenerationParts } from './text-generation.js'
import { tracedGenerate, tracedStream, traceOf } from './traced-calls.js'

/** The parts of a text that differ from text to text. */
type OwnParts = Pick<TextGenerationParts, 'promptIds' | 'options'> &
  Partial<Pick<TextGenerationParts, 'stream' | 'grammar' | 'endTokenIds' | 'positions'>> &
  StreamParts

type StreamParts = Pick<TextGenerationParts, 'onChunk' | 'skipSpecialTokens'>

export class TextCalls {
  /** The checkpoint's. */
  readonly presets: Readonly<Partial<GenerateOptions>>
  readonly #context: CallContext
  readonly #config: ModelConfig
  readonly #eosTokenIds: readonly number[]
  readonly #grammars: Grammars | undefined

  constructor(context: CallContext, config: ModelConfig, generation: GenerationConfig) {
    this.#context = context
    this.#config = config
    this.presets = Object.freeze(presetsOf(generation))
    this.#eosTokenIds = generation.eosTokenIds ?? config.eosTokenIds
    const { tokenizer } = context.prompts
    this.#grammars = tokenizer && new Grammars(tokenizer.pieces, config.vocabSize)
  }

  async generate(
    prompt: Prompt | readonly Prompt[],
    options: GenerateOptions,
  ): Promise<GenerateResult | GenerateResult[]> {
    const resolved = this.resolve(options)
    const { prompts: context, texts, device } = this.#context
    const { prompts, isBatch, name } = splitBatch(prompt, 'prompt')
    using grammar = await this.#grammar(resolved)
    const generations: TextGeneration[] = []
    const slice = new TimeSlice()
    for (const [i, each] of prompts.entries()) {
      await slice.pauseIfOver()
      const ids = await promptIds(checkPrompt(each, name(i), context), name(i), context, resolved)
      const own = options.seed === undefined ? { ...resolved, seed: randomSeed() } : resolved
      for (let n = 0; n < resolved.numReturnSequences; n++)
        generations.push(this.#text({ promptIds: ids, options: own, stream: n, grammar }))
    }
    await admitted(generations, resolved)
    const results = await tracedGenerate(
      () => traceOf('generate', device, generations),
      () =>
        settleAll(
          generations.map(generation => texts.start(generation)),
          resolved.signal,
        ),
    )
    return isBatch || options.numReturnSequences !== undefined ? results : results[0]!
  }

  stream(prompt: Prompt, options: GenerateOptions): GenerationStream {
    const resolved = this.resolve(options)
    const { prompts: context } = this.#context
    const { prompts, isBatch } = splitBatch(prompt, 'prompt')
    if (isBatch) throw new TypeError('prompt: expected one prompt to stream, got several')
    if (resolved.numReturnSequences > 1) {
      throw new RangeError(
        `numReturnSequences: expected 1 for a stream, got ${resolved.numReturnSequences}`,
      )
    }
    const checked = checkPrompt(prompts[0], 'prompt', context)
    return new GenerationStream(
      onChunk =>
        deferred(resolved.signal, async signal => {
          const own = { ...resolved, signal }
          const ids = await promptIds(checked, 'prompt', context, own)
          return this.start('stream', ids, own, { onChunk })
        }),
      resolved.signal,
    )
  }

  /**
   * `defaults` hold where neither the call nor the checkpoint says anything.
   * @throws TypeError, RangeError; MoeppError ERR_BAD_CONFIG, ERR_BAD_TOKENIZER
   */
  resolve(options: GenerateOptions, defaults: GenerateOptions = {}): ResolvedOptions {
    const { tokenizer } = this.#context.prompts
    const resolved = resolveGenerateOptions(options, { ...defaults, ...this.presets }, this.#config)
    if (resolved.stop.length > 0 && !tokenizer) throw noTokenizer('the option stop')
    if (resolved.grammar && !tokenizer) throw noTokenizer('the option grammar')
    return resolved
  }

  /** The tokens that end a text. `further` ones are a chat template's. */
  endTokenIds(options: ResolvedOptions, further: readonly number[] = []): ReadonlySet<number> {
    const ends = options.ignoreEos ? [] : [...this.#eosTokenIds, ...further]
    return new Set([...ends, ...options.stopTokenIds])
  }

  /** Starts one text, which tracing channels show. */
  async start(
    call: 'stream' | 'chat' | 'streamChat',
    promptIds: readonly number[],
    options: ResolvedOptions,
    further: StreamParts & { readonly endTokenIds?: ReadonlySet<number> },
  ): Promise<Job<GenerateResult>> {
    const { texts, device } = this.#context
    return this.#withGrammar(options, async grammar => {
      const text = this.#text({ promptIds, options, grammar, ...further })
      await admitted([text], options)
      return tracedStream(
        () => traceOf(call, device, [text]),
        () => texts.start(text),
      )
    })
  }

  /** Starts a text that rank 0 of the group has handed to this rank. */
  startHandedOut(
    { options, ...text }: PortableText,
    signal: AbortSignal,
    onChunk?: (chunk: GenerateChunk) => void,
  ): Promise<Job<GenerateResult>> {
    // Rank 0 warns.
    const positions = { note() {} }
    const own = { ...text, positions, options: { ...options, signal }, ...(onChunk && { onChunk }) }
    return this.#withGrammar(own.options, async grammar =>
      this.#text({ ...own, grammar }).start(this.#context.engine),
    )
  }

  /** The job that `begin` makes. It has the call's grammar to its end. */
  async #withGrammar<T>(
    options: ResolvedOptions,
    begin: (grammar: GrammarLease | undefined) => Promise<Job<T>>,
  ): Promise<Job<T>> {
    const grammar = await this.#grammar(options)
    try {
      const { done, cancel } = await begin(grammar)
      return { done: done.finally(() => grammar?.[Symbol.dispose]()), cancel }
    } catch (error) {
      grammar?.[Symbol.dispose]()
      throw error
    }
  }

  /** Ends the threads of grammars. */
  close(): void {
    this.#grammars?.close()
  }

  /**
   * The grammar of a call, compiled, if it has one and the signal does not abort before. It must be
   * disposed of when the call ends.
   * @throws MoeppError ERR_BAD_GRAMMAR, ERR_CLOSED
   */
  async #grammar({ grammar, signal }: ResolvedOptions): Promise<GrammarLease | undefined> {
    if (!grammar || signal?.aborted) return undefined
    try {
      return await this.#grammars!.lease(grammar, signal)
    } catch (error) {
      if (signal?.aborted) return undefined
      throw error
    }
  }

  #text({ stream = 0, grammar, ...own }: OwnParts): TextGeneration {
    const { engine, prompts, positions } = this.#context
    return new TextGeneration({
      endTokenIds: this.endTokenIds(own.options),
      positions,
      ...own,
      stream,
      grammar,
      maxTokens: engine.maxTokens,
      routers: engine.routers,
      tokenizer: prompts.tokenizer,
    })
  }
}

/** Waits until the caller admits the texts, or the signal aborts. Rejects if it refuses them. */
async function admitted(
  texts: readonly TextGeneration[],
  { admit, signal }: ResolvedOptions,
): Promise<void> {
  if (!admit || signal?.aborted) return
  const load: CallLoad = {
    sequences: texts.length,
    promptTokens: sum(texts, text => text.promptTokens),
    maxNewTokens: sum(texts, text => text.maxNewTokens),
  }
  const answer = async () => admit(load)
  await unlessAborted(answer(), signal)
}

function sum<T>(list: readonly T[], number: (each: T) => number): number {
  return list.reduce((total, each) => total + number(each), 0)
}
