/**
 * The generation of one text: takes logits, gives tokens, and turns them into text until something
 * ends it.
 */
import type { Engine } from '../engine/engine.js'
import type { SequenceConsumer, SequenceReport } from '../engine/sequence.js'
import type { GrammarMatcher } from '../grammar/compiled-grammar.js'
import type { GrammarLease } from '../grammar/grammars.js'
import type { ResolvedOptions } from '../options/generate.js'
import type { Router } from '../program/model-spec.js'
import { PromptLookup } from '../sampling/prompt-lookup.js'
import {
  Sampler,
  type ScoredLogits,
  scoredLogprobs,
  type TokenLogprobs,
  type TopLogits,
} from '../sampling/sampler.js'
import { StopStrings } from '../tokenizer/stop-strings.js'
import type { TextStream } from '../tokenizer/text-stream.js'
import type { Tokenizer } from '../tokenizer/tokenizer.js'
import type { Job } from './job.js'
import type { PositionWarning } from './positions.js'
import type { FinishReason, GenerateChunk, GenerateResult, Timings } from './results.js'
import { RoutingRecorder, routingNames } from './routing.js'

export interface TextGenerationParts {
  readonly promptIds: readonly number[]
  readonly options: ResolvedOptions
  /** Index among the sequences that share the seed. */
  readonly stream: number
  readonly endTokenIds: ReadonlySet<number>
  /** Tokens that prompt and text may have together. */
  readonly maxTokens: number
  /** Layers with experts. */
  readonly routers: readonly Router[]
  readonly tokenizer: Tokenizer | undefined
  readonly positions: Pick<PositionWarning, 'note'>
  /** With a tokenizer alone. */
  readonly grammar: GrammarLease | undefined
  readonly onChunk?: (chunk: GenerateChunk) => void
  /** As in TextStreamOptions. Default true. */
  readonly skipSpecialTokens?: boolean
}

/** All that another rank of a group needs to compute a text as this one would: plain data. */
export interface PortableText
  extends Pick<TextGenerationParts, 'promptIds' | 'stream' | 'endTokenIds' | 'skipSpecialTokens'> {
  readonly options: ResolvedOptions
}

/** A text whose grammar is slower makes no guesses. */
const SLOW_GRAMMAR_MS = 10

export class TextGeneration implements SequenceConsumer {
  readonly #parts: TextGenerationParts
  readonly #maxNewTokens: number
  readonly #sampler: Sampler
  readonly #textStream: TextStream | undefined
  readonly #matcher: GrammarMatcher | undefined
  readonly #stopStrings: StopStrings | undefined
  readonly #routing: RoutingRecorder | undefined
  readonly #lookup: PromptLookup | undefined
  /** Time that the grammar took for the last token. */
  #matchMs = 0
  #text = ''
  readonly #tokenIds: number[] = []
  readonly #logprobs: TokenLogprobs[] = []
  /** Of the prompt's tokens, if they are wanted. */
  readonly #promptLogprobs: (TokenLogprobs | null)[] | undefined
  /** Tokens that no chunk has given out. */
  #chunkStart = 0
  #finishReason: FinishReason | undefined
  /** Or the end of the prompt, if no token is wanted. */
  #firstTokenAt = 0
  #lastTokenAt = 0

  constructor(parts: TextGenerationParts) {
    const { promptIds, options, stream, endTokenIds, maxTokens, tokenizer, grammar } = parts
    this.#parts = parts
    this.#maxNewTokens = Math.min(options.maxNewTokens, maxTokens - promptIds.length)
    this.#textStream = tokenizer?.stream({
      prompt: promptIds,
      skipSpecialTokens: parts.skipSpecialTokens ?? true,
    })
    this.#matcher = grammar?.open(endTokenIds, this.#textStream!.dropsSpace)
    const allowed = this.#matcher
    this.#sampler = new Sampler(options, { promptIds, endTokenIds, stream, allowed })
    if (options.stop.length > 0) this.#stopStrings = new StopStrings(options.stop)
    if (options.promptLogprobs !== undefined) this.#promptLogprobs = [null]
    if (options.routing) {
      const tells = parts.onChunk !== undefined
      this.#routing = new RoutingRecorder(options.routing, parts.routers, tells)
    }
    if (options.speculate) {
      const most = promptIds.length + options.maxNewTokens
      this.#lookup = new PromptLookup(options.speculate, promptIds, Math.min(most, maxTokens))
    }
  }

  get promptTokens(): number {
    return this.promptIds.length
  }

  get promptIds(): readonly number[] {
    return this.#parts.promptIds
  }

  /** Notes a text that another rank has generated. */
  noteLength({ tokenIds }: GenerateResult): void {
    this.#parts.positions.note(this.promptTokens + tokenIds.length)
  }

  get onChunk(): ((chunk: GenerateChunk) => void) | undefined {
    return this.#parts.onChunk
  }

  /** Undefined if a function of the caller's takes part, or if the text has been aborted. */
  get portable(): PortableText | undefined {
    const { promptIds, stream, endTokenIds, skipSpecialTokens = true, options } = this.#parts
    if (options.logits || options.signal?.aborted) return undefined
    const grammar = options.grammar && JSON.parse(JSON.stringify(options.grammar))
    const plain = { ...options, grammar, signal: undefined, admit: undefined }
    return { promptIds, stream, endTokenIds, skipSpecialTokens, options: plain }
  }

  /** Most tokens that it may generate. */
  get maxNewTokens(): number {
    return this.#maxNewTokens
  }

  /**
   * Hands it to the engine, unless the signal has aborted. A prompt that fills the context is
   * computed too.
   */
  start(engine: Engine): Job<GenerateResult> {
    const { promptIds, options, routers } = this.#parts
    if (options.signal?.aborted) return this.#aborted()
    const last = promptIds.length - 1
    const { done, cancel } = engine.submit({
      tokens: promptIds,
      logitsFrom: this.#promptLogprobs ? 0 : last,
      scoredTo: last,
      capture: this.#routing ? routingNames(routers) : [],
      capturesCached: options.routing === true,
      generates: this.#maxNewTokens > 0,
      consumer: this,
      ...(this.#sampler.takesTop(engine.topLogits) && {
        top: options.logprobs === undefined ? 'logits' : 'logits and logSumExp',
      }),
    })
    return { done: done.then(report => this.#result(report)), cancel }
  }

  get pending(): Promise<void> | undefined {
    return this.#matcher?.pending
  }

  suffices(top: TopLogits): boolean {
    return this.#maxNewTokens === 0 || this.#sampler.suffices(top)
  }

  draft(most: number): readonly number[] {
    // Guesses wait for the grammar within the step, and others with them.
    if (this.#matchMs > SLOW_GRAMMAR_MS) return []
    // The last token of the text is never an input.
    const left = this.#maxNewTokens - this.#tokenIds.length - 1
    return this.#lookup?.draft(Math.min(most, left)) ?? []
  }

  next(position: number, logits: Float32Array | TopLogits): number | undefined {
    this.#parts.positions.note(position + 1)
    if (position < this.promptTokens - 1)
      return this.#scorePrompt(position + 1, logits as ScoredLogits)
    if (this.#maxNewTokens === 0) return this.#endPrompt()
    if (this.#matcher?.isComplete && this.#parts.endTokenIds.size === 0) return this.#complete()
    const { tokenId, logprobs } = this.#sampler.sample(logits)
    this.#tokenIds.push(tokenId)
    this.#lookup?.append(tokenId)
    if (logprobs) this.#logprobs.push(logprobs)
    this.#lastTokenAt = performance.now()
    if (this.#tokenIds.length === 1) this.#firstTokenAt = this.#lastTokenAt
    let text = ''
    if (this.#parts.endTokenIds.has(tokenId)) this.#finishReason = 'stop'
    else {
      text = this.#untilStop(this.#textStream?.push(tokenId) ?? '')
      if (this.#tokenIds.length === this.#maxNewTokens) this.#finishReason ??= 'length'
    }
    if (this.#finishReason !== undefined) text += this.#rest()
    this.#giveOut(text)
    if (this.#finishReason !== undefined) return undefined
    this.#accept(tokenId)
    return tokenId
  }

  captured(name: string, rows: Int32Array | Float32Array, position: number): void {
    this.#routing?.add(name, rows, position)
  }

  #accept(tokenId: number): void {
    if (!this.#matcher) return
    this.#matcher.accept(tokenId)
    const start = performance.now()
    const note = () => {
      this.#matchMs = performance.now() - start
    }
    this.#matcher.pending?.then(note, note)
  }

  #scorePrompt(position: number, logits: ScoredLogits): undefined {
    const { promptIds, options } = this.#parts
    const scored = scoredLogprobs(logits, promptIds[position]!, options.promptLogprobs!)
    this.#promptLogprobs!.push(scored)
  }

  /** No token is wanted after the prompt. */
  #endPrompt(): undefined {
    this.#finishReason = 'length'
    this.#firstTokenAt = this.#lastTokenAt = performance.now()
    if (this.#routing) this.#giveOut('')
  }

  /** The grammar allows nothing more, and no token ends the text. */
  #complete(): undefined {
    this.#finishReason = 'stop'
    this.#giveOut(this.#rest())
  }

  #aborted(): Job<GenerateResult> {
    const report = {
      cachedTokens: 0,
      submittedAt: performance.now(),
      startedAt: undefined,
      draftedTokens: 0,
      acceptedTokens: 0,
      cancelled: false,
    }
    return { done: Promise.resolve(this.#result(report)), cancel: () => {} }
  }

  /** The part of new text that can be given out. Ends the generation at a stop string. */
  #untilStop(text: string): string {
    if (!this.#stopStrings) return text
    const { text: certain, stop } = this.#stopStrings.push(text)
    if (stop !== undefined) this.#finishReason = 'stop'
    return certain
  }

  /** The text that was held back; no more tokens come. */
  #rest(): string {
    return this.#untilStop(this.#textStream?.flush() ?? '') + (this.#stopStrings?.flush() ?? '')
  }

  #giveOut(text: string): void {
    this.#text += text
    // Without a tokenizer there is no text to wait for.
    if (text === '' && this.#finishReason === undefined && this.#textStream) return
    const tokenIds = this.#tokenIds.slice(this.#chunkStart)
    const logprobs = this.#logprobs.slice(this.#chunkStart)
    this.#chunkStart = this.#tokenIds.length
    const computed = this.#routing?.takeRecent()
    const routing = computed && { promptTokens: this.promptTokens, ...computed }
    this.#parts.onChunk?.({
      text,
      tokenIds,
      ...(logprobs.length > 0 && { logprobs }),
      ...(routing && { routing }),
    })
  }

  #result(report: SequenceReport): GenerateResult {
    const { promptIds, options } = this.#parts
    const { cachedTokens, draftedTokens, acceptedTokens } = report
    if (this.#finishReason === undefined) {
      // Aborted: the tokens are the caller's, and so is the text that was held back of them.
      this.#text += this.#rest()
      this.#finishReason = 'abort'
    }
    return {
      text: this.#text,
      tokenIds: this.#tokenIds,
      finishReason: this.#finishReason,
      usage: {
        promptTokens: promptIds.length,
        generatedTokens: this.#tokenIds.length,
        cachedTokens,
        ...(options.speculate && { draftedTokens, acceptedTokens }),
      },
      timings: this.#timings(report),
      ...(options.logprobs !== undefined && { logprobs: this.#logprobs }),
      ...(this.#promptLogprobs && { promptLogprobs: this.#promptLogprobs }),
      ...(this.#routing && { routing: this.#routing.result() }),
    }
  }

  #timings({ submittedAt, startedAt, cachedTokens }: SequenceReport): Timings {
    const generated = this.#tokenIds.length
    const prefillMs = this.#firstTokenAt > 0 ? this.#firstTokenAt - startedAt! : 0
    const decodeMs = this.#lastTokenAt - this.#firstTokenAt
    return {
      queueMs: (startedAt ?? performance.now()) - submittedAt,
      prefillMs,
      decodeMs,
      prefillTokensPerSecond: perSecond(this.#parts.promptIds.length - cachedTokens, prefillMs),
      decodeTokensPerSecond: perSecond(generated - 1, decodeMs),
    }
  }
}

function perSecond(tokens: number, ms: number): number {
  return ms > 0 ? (tokens * 1000) / ms : 0
}
