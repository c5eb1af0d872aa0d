/** The keys and values of a text, to a file and back. */
import { InputFile } from '../base/input-file.js'
import { boolean, checkAll, signal, text } from '../base/option-checks.js'
import { StagedFile } from '../base/staged-file.js'
import { TimeSlice } from '../base/time-slice.js'
import type { TemplateOptions } from '../chat/chat-options.js'
import type { Engine, ReservedPages } from '../engine/engine.js'
import type { Page } from '../engine/kv-cache.js'
import type { Runner } from '../engine/runner.js'
import { MoeppError } from '../errors.js'
import type { ChatMessage } from '../template/messages.js'
import type { CallContext } from './call-context.js'
import { aborted, settle, throwIfAborted } from './job.js'
import type { TextStarter } from './leader.js'
import type { PositionWarning } from './positions.js'
import { checkPrompt, type PromptContext, promptIds } from './prompt.js'
import { clearBehind, fromBytes, toBytes } from './state-elements.js'
import {
  bytesOf,
  Checksum,
  encodeHead,
  StateReader,
  type StateShape,
  stateShape,
} from './state-format.js'

/**
 * Options of `Model.saveState`.
 *
 * @example
 * ```ts
 * import { loadModel, type SaveStateOptions } from 'moepp'
 *
 * const model = await loadModel('npm:moepp-books-7m')
 * const options: SaveStateOptions = { signal: AbortSignal.timeout(10_000) }
 * console.log((await model.saveState('old-man.kv', 'The old man', options)).bytes)
 * ```
 */
export interface SaveStateOptions {
  /** As in GenerateOptions; for a prompt that is a text. */
  addSpecialTokens?: boolean
  /** As in GenerateOptions; for a text. */
  splitSpecialTokens?: boolean
  /** The template's options that a conversation was held with. */
  chat?: TemplateOptions
  /** Ends the call early: it rejects with ERR_ABORTED, and no file is made. */
  signal?: AbortSignal
}

/**
 * Options of `Model.loadState`.
 *
 * @example
 * ```ts
 * import { type LoadStateOptions, loadModel } from 'moepp'
 *
 * const model = await loadModel('npm:moepp-books-7m')
 * await model.saveState('old-man.kv', 'The old man')
 * const options: LoadStateOptions = { signal: AbortSignal.timeout(10_000) }
 * console.log((await model.loadState('old-man.kv', options)).tokens)
 * ```
 */
export interface LoadStateOptions {
  /** Ends the call early: it rejects with ERR_ABORTED, and nothing is taken from the file. */
  signal?: AbortSignal
}

/**
 * Result of `Model.saveState`.
 *
 * @example
 * ```ts
 * import { loadModel, type SavedState } from 'moepp'
 *
 * const model = await loadModel('npm:moepp-books-7m')
 * const saved: SavedState = await model.saveState('old-man.kv', 'The old man')
 * console.log(`${saved.tokens} tokens, ${saved.bytes} bytes`)
 * ```
 */
export interface SavedState {
  /** Tokens that the file holds: all of the prompt's. */
  readonly tokens: number
  /** Of these, tokens that the KV cache held already. The others were computed. */
  readonly cachedTokens: number
  /** Size of the file. */
  readonly bytes: number
}

/**
 * Result of `Model.loadState`.
 *
 * @example
 * ```ts
 * import { type LoadedState, loadModel } from 'moepp'
 *
 * const model = await loadModel('npm:moepp-books-7m')
 * await model.saveState('old-man.kv', 'The old man')
 * const state: LoadedState = await model.loadState('old-man.kv')
 * console.log(model.tokenizer.decode(state.tokenIds))
 * ```
 */
export interface LoadedState {
  /** Tokens that the file holds. */
  readonly tokens: number
  /** Their ids: a prompt that begins with them takes over their keys and values. */
  readonly tokenIds: number[]
}

const SAVE_CHECKS = {
  addSpecialTokens: boolean,
  splitSpecialTokens: boolean,
  // Its parts are checked with the conversation.
  chat: (value: unknown) => value as TemplateOptions,
  signal,
}
const LOAD_CHECKS = { signal }

/** Bytes that are read or written between two steps, or one page if that is more. */
const BYTES_AT_ONCE = 4 << 20

/** The tokens of a conversation, in which an answer keeps its own; none after an abort. */
type ConversationTokens = (
  messages: readonly ChatMessage[],
  options: TemplateOptions,
  signal: AbortSignal | undefined,
) => Promise<number[]>

/** The state files of one model. */
export class StateFiles {
  readonly #engine: Engine
  readonly #texts: TextStarter
  readonly #runner: Runner
  readonly #prompts: PromptContext
  readonly #positions: PositionWarning

  constructor({ engine, texts, prompts, positions }: CallContext, runner: Runner) {
    this.#texts = texts
    this.#engine = engine
    this.#runner = runner
    this.#prompts = prompts
    this.#positions = positions
  }

  /** `tokensOf` gives those of a conversation. */
  async save(
    file: unknown,
    prompt: unknown,
    options: unknown,
    tokensOf: ConversationTokens,
  ): Promise<SavedState> {
    const path = text(file, 'file')
    const how = checkAll(options, SAVE_CHECKS, undefined)
    const isConversation = Array.isArray(prompt) && typeof prompt[0] === 'object'
    const ids = isConversation
      ? await tokensOf(prompt, how.chat ?? {}, how.signal)
      : await promptIds(checkPrompt(prompt, 'prompt', this.#prompts), 'prompt', this.#prompts, how)
    throwIfAborted(how.signal)
    const shape = await this.#shape()
    return StagedFile.with(path, async staged => {
      const { pages, cachedTokens } = await this.#compute(ids, how.signal)
      try {
        await this.#write(staged, shape, ids, pages, how.signal)
      } finally {
        this.#engine.release(pages)
      }
      return { tokens: ids.length, cachedTokens, bytes: staged.bytes }
    })
  }

  async load(file: unknown, options: unknown): Promise<LoadedState> {
    const path = text(file, 'file')
    const how = checkAll(options, LOAD_CHECKS, undefined)
    throwIfAborted(how.signal)
    const shape = await this.#shape()
    try {
      const tokenIds = await InputFile.with(path, opened =>
        this.#read(new StateReader(opened), shape, path, how.signal),
      )
      this.#texts.holds?.(tokenIds)
      return { tokens: tokenIds.length, tokenIds }
    } catch (error) {
      throw asBadState(error)
    }
  }

  async #shape(): Promise<StateShape> {
    const { cache, pageSize, vocabSize } = this.#runner
    const { maxTokens } = this.#prompts
    return stateShape(await this.#runner.fingerprint(), cache, { pageSize, vocabSize, maxTokens })
  }

  /** Pages of all tokens, to be released. Those that are not in the cache are computed. */
  async #compute(
    tokens: readonly number[],
    signal: AbortSignal | undefined,
  ): Promise<{ pages: readonly Page[]; cachedTokens: number }> {
    throwIfAborted(signal)
    this.#positions.note(tokens.length)
    const submission = this.#engine.submit({
      tokens,
      logitsFrom: tokens.length - 1,
      top: 'logits',
      keepsPages: true,
      capture: [],
      consumer: { next: () => undefined, suffices: () => true },
    })
    const { pages, cachedTokens } = await settle(submission, signal)
    if (!pages) throw aborted(signal)
    return { pages, cachedTokens }
  }

  async #write(
    staged: StagedFile,
    shape: StateShape,
    tokens: readonly number[],
    pages: readonly Page[],
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const checksum = new Checksum()
    const append = async (bytes: Uint8Array) => {
      await checksum.add(bytes)
      await staged.append(bytes)
    }
    await append(encodeHead(shape, tokens))
    const buffer = new Uint8Array(pagesAtOnce(shape) * shape.pageBytes)
    for (const group of groups(pages.length, shape)) {
      throwIfAborted(signal)
      const bytes = buffer.subarray(0, group.length * shape.pageBytes)
      const held = group.map(i => ({
        page: pages[i]!,
        rows: Math.min(shape.pageSize, tokens.length - i * shape.pageSize),
        bytes: bytes.subarray((i - group[0]!) * shape.pageBytes),
      }))
      await this.#engine.betweenSteps(() => this.#readPages(held))
      await append(bytes)
    }
    throwIfAborted(signal)
    await staged.append(checksum.digest())
  }

  /** Puts each layer of the pages into `bytes`, as the file has them. */
  async #readPages(
    pages: readonly { readonly page: Page; readonly rows: number; readonly bytes: Uint8Array }[],
  ): Promise<void> {
    const { cache, pageSize } = this.#runner
    const slice = new TimeSlice()
    for (const { page, rows, bytes } of pages) {
      let at = 0
      for (let layer = 0; layer < cache.layers; layer++) {
        const values = this.#runner.readPage(layer, page.index)
        if (rows < pageSize) clearBehind(values, rows, pageSize, cache)
        if (!toBytes(values, cache.dtype, bytes.subarray(at))) throw notFinite(layer)
        at += values.length * bytesOf(cache.dtype)
        await slice.pauseIfOver()
      }
    }
  }

  /** The tokens of a file, whose pages are among those that prompts may begin with now. */
  async #read(
    reader: StateReader,
    shape: StateShape,
    path: string,
    signal: AbortSignal | undefined,
  ): Promise<number[]> {
    const tokens = await reader.head(shape)
    throwIfAborted(signal)
    const reserved = this.#engine.reserve(tokens)
    if (!reserved) throw this.#noRoom(path, tokens.length)
    try {
      await this.#fill(reserved, reader, shape, signal)
      await reader.end()
      throwIfAborted(signal)
      this.#engine.adopt(reserved)
    } finally {
      this.#engine.release(reserved.pages)
    }
    return tokens
  }

  /** No prompt begins with these pages yet: what a damaged file puts there is never read. */
  async #fill(
    { pages, shared }: ReservedPages,
    reader: StateReader,
    shape: StateShape,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    for (const group of groups(pages.length, shape)) {
      throwIfAborted(signal)
      const bytes = await reader.pages(group.length * shape.pageBytes)
      await this.#engine.betweenSteps(async () => {
        const slice = new TimeSlice()
        const { layers, dtype } = this.#runner.cache
        const blockBytes = shape.pageBytes / layers
        for (let n = 0; n < group.length * layers; n++) {
          const values = fromBytes(bytes.subarray(n * blockBytes, (n + 1) * blockBytes), dtype)
          if (!values) throw reader.bad('holds keys or values that are not finite numbers')
          const page = group[Math.floor(n / layers)]!
          // The cache has the others' keys already.
          if (page >= shared) this.#runner.writePage(n % layers, pages[page]!.index, values)
          await slice.pauseIfOver()
        }
      })
    }
  }

  #noRoom(path: string, tokens: number): MoeppError {
    const { kvPagesTotal, kvPagesUsed, kvPageSize } = this.#engine.stats()
    const free = (kvPagesTotal - kvPagesUsed) * kvPageSize
    return new MoeppError(
      'ERR_OUT_OF_MEMORY',
      `${path}: has ${tokens} tokens, the KV cache has room for ${free} beside those of running calls: raise kvCacheTokens, or wait for these calls`,
    )
  }
}

/** Pages that are read or written between two steps. */
function pagesAtOnce({ pageBytes }: StateShape): number {
  return Math.max(1, Math.floor(BYTES_AT_ONCE / pageBytes))
}

/** The numbers of so many pages at a time. */
function* groups(pages: number, shape: StateShape): Generator<number[]> {
  const most = pagesAtOnce(shape)
  for (let first = 0; first < pages; first += most)
    yield Array.from({ length: Math.min(most, pages - first) }, (_, i) => first + i)
}

function notFinite(layer: number): MoeppError {
  return new MoeppError(
    'ERR_DEVICE',
    `state: layer ${layer} has keys or values that are not finite numbers: the weights are damaged or too large, or the device failed`,
  )
}

/** Readers of any file say ERR_BAD_FILE of bad bytes. */
function asBadState(error: unknown): unknown {
  const isBad = error instanceof MoeppError && error.code === 'ERR_BAD_FILE'
  return isBad ? new MoeppError('ERR_BAD_STATE', error.message, { cause: error }) : error
}
