/** A checkpoint's tokenizer: text to token ids and back. */
import { join } from 'node:path'
import { checkAll } from '../base/option-checks.js'
import { MoeppError } from '../errors.js'
import { ChatTemplate, type ChatTemplateOptions } from '../template/chat-template.js'
import type { ChatMessage } from '../template/messages.js'
import type { Part } from './added-tokens.js'
import { isByteLevel } from './byte-level-json.js'
import { convert } from './convert.js'
import { Encoder } from './encoder.js'
import { badTokenizer, type TokenizerJson } from './json-form.js'
import {
  checkIds,
  DECODE_CHECKS,
  type DecodeOptions,
  ENCODE_ASYNC_CHECKS,
  ENCODE_CHECKS,
  type EncodeAsyncOptions,
  type EncodeOptions,
  STREAM_CHECKS,
} from './options.js'
import { type PieceTable, pieceTable } from './piece-table.js'
import { parseSentencePiece } from './sentencepiece.js'
import { sentencePieceFromJson } from './sentencepiece-json.js'
import { finish, type Steps } from './steps.js'
import { TextStream, type TextStreamOptions } from './text-stream.js'
import { idsIf, roleId, type SpecialToken, tokenEntries } from './token-ids.js'
import { type Role, readTokenizerConfig, type TokenizerConfig } from './tokenizer-config.js'
import { parseTokenizerJson, readOptional } from './tokenizer-files.js'
import { checkTokenizerJson, decoderDropsSpace, idsAround } from './tokenizer-json.js'

/**
 * Reads a checkpoint's tokenizer without its weights: tokenizer.json, or else tokenizer.model, and
 * what tokenizer_config.json says about it.
 *
 * @param directory the folder of the checkpoint
 * @throws MoeppError ERR_NOT_FOUND, ERR_BAD_FILE, ERR_BAD_TOKENIZER
 *
 * @example
 * ```ts
 * import { loadTokenizer } from 'moepp'
 *
 * const tokenizer = await loadTokenizer('models/books-7m')
 * console.log(tokenizer.encode('The old man').length)
 * ```
 */
export async function loadTokenizer(directory: string): Promise<Tokenizer> {
  if (typeof directory !== 'string')
    throw new TypeError(`directory: expected a string, got ${typeof directory}`)
  const config = await readTokenizerConfig(directory)
  const jsonFile = join(directory, 'tokenizer.json')
  const jsonBytes = await readOptional(jsonFile)
  if (jsonBytes) {
    return new Tokenizer(
      checkTokenizerJson(parseTokenizerJson(jsonBytes, jsonFile), jsonFile),
      config,
      jsonFile,
    )
  }
  const modelFile = join(directory, 'tokenizer.model')
  const modelBytes = await readOptional(modelFile)
  if (!modelBytes) {
    throw new MoeppError(
      'ERR_NOT_FOUND',
      `${directory}: has no tokenizer.json and no tokenizer.model`,
    )
  }
  const model = parseSentencePiece(modelBytes, modelFile)
  return new Tokenizer(convert(model, config, modelFile), config, modelFile)
}

const NO_IDS: ReadonlySet<number> = new Set()

/**
 * A checkpoint's tokenizer, as `loadTokenizer` or `model.tokenizer` gives it. It keeps nothing of
 * the texts that it has seen, and its time grows with a text's length alone.
 *
 * @example
 * ```ts
 * import { loadTokenizer } from 'moepp'
 *
 * const tokenizer = await loadTokenizer('models/books-7m')
 * const ids = tokenizer.encode('The old man')
 * console.log(ids.length) // the number of tokens
 * console.log(tokenizer.decode(ids)) // The old man
 * ```
 */
export class Tokenizer {
  /** One more than the highest token id. */
  readonly vocabSize: number
  /**
   * The most UTF-16 code units (`text.length`) of a text that one token can stand for. So a text of
   * more than n times as many has more than n tokens. Infinity where there is no bound, as with an
   * unknown token that stands for any number of characters.
   */
  readonly maxTokenLength: number
  /** Begin of a text; undefined if there is none. */
  readonly bosTokenId: number | undefined
  /** End of a text; undefined if there is none. */
  readonly eosTokenId: number | undefined
  /** Padding; undefined if there is none. moepp does not need one. */
  readonly padTokenId: number | undefined
  /** Stands for characters that have no token of their own; undefined if there is none. */
  readonly unkTokenId: number | undefined
  /**
   * Tokens that stand for no text. Encoding a text gives none of them, but for the byte-level form
   * (see `EncodeOptions.splitSpecialTokens`).
   */
  readonly specialTokens: readonly SpecialToken[]
  /**
   * The checkpoint's Jinja template for chats, the default one, as text. `applyChatTemplate` runs
   * it. Undefined for a base model.
   */
  readonly chatTemplate: string | undefined

  readonly #json: TokenizerJson
  readonly #encoder: Encoder
  readonly #table: PieceTable
  readonly #contents: readonly (string | undefined)[]
  readonly #ids: ReadonlyMap<string, number>
  readonly #before: readonly number[]
  readonly #after: readonly number[]
  readonly #template: ChatTemplate
  readonly #file: string

  /** `json` has passed checkTokenizerJson; `file` is the name that errors carry. */
  constructor(json: TokenizerJson, config: TokenizerConfig, file: string) {
    const model = sentencePieceFromJson(json, file)
    const byteLevel = isByteLevel(json, file)
    const entries = tokenEntries(json, model, config, byteLevel)
    this.#json = json
    this.#encoder = new Encoder(json, model, file)
    this.maxTokenLength = this.#encoder.maxTokenLength
    this.#table = pieceTable(entries, {
      dropsFirstSpace: decoderDropsSpace(json, file),
      isByteLevel: byteLevel,
    })
    this.#ids = new Map(entries.map(({ id, content }) => [content, id]))
    const contents: (string | undefined)[] = new Array(this.#table.texts.length).fill(undefined)
    for (const { id, content } of entries) contents[id] = content
    this.#contents = contents
    this.vocabSize = contents.length
    this.specialTokens = [...this.#table.special]
      .sort((a, b) => a - b)
      .map(id => ({ id, content: contents[id]! }))
    this.chatTemplate = config.chat.templates.get('default')
    this.#file = file
    const idOf = (role: Role) => roleId(role, config, this.#ids, file, byteLevel)
    this.bosTokenId = idOf('bos_token')
    this.eosTokenId = idOf('eos_token')
    this.padTokenId = idOf('pad_token')
    const { unk_token: unkToken } = json.model
    this.unkTokenId = unkToken ? this.#ids.get(unkToken) : idOf('unk_token')
    const around = idsAround(json, file)
    this.#before = idsIf(config.addBosToken, this.bosTokenId, around.before, 'bos', file)
    this.#after = idsIf(config.addEosToken, this.eosTokenId, around.after, 'eos', file)
    const unknown = [...this.#before, ...this.#after].find(id => contents[id] === undefined)
    if (unknown !== undefined)
      throw badTokenizer(file, 'post_processor', 'known token ids', unknown)
    const bos_token = contents[this.bosTokenId ?? -1]
    const eos_token = contents[this.eosTokenId ?? -1]
    const tokens = { bos_token, eos_token, ...config.namedTokens }
    this.#template = new ChatTemplate({ ...config.chat, tokens })
  }

  /**
   * The text of a conversation, as the checkpoint's own chat template writes it: what a chat model
   * was trained on. Encode it with `addSpecialTokens: false`, for it has its special tokens.
   *
   * The template is a program of the checkpoint. It runs in a thread, with limits of time and
   * memory. Its results are those of Python's Jinja, with two exceptions that JavaScript makes: the
   * number 1.0 is written 1, and keys such as "7" come before others.
   *
   * @example
   * ```ts
   * import { loadTokenizer, MoeppError } from 'moepp'
   *
   * const tokenizer = await loadTokenizer('models/books-7m')
   * try {
   *   const messages = [{ role: 'user', content: 'Hello!' }]
   *   const options = { addGenerationPrompt: true, enable_thinking: false }
   *   console.log(await tokenizer.applyChatTemplate(messages, options))
   * } catch (error) {
   *   // A base model has no chat template.
   *   if (!(error instanceof MoeppError) || error.code !== 'ERR_NO_CHAT_TEMPLATE') throw error
   * }
   * ```
   * @throws TypeError or RangeError for a wrong argument; MoeppError ERR_NO_CHAT_TEMPLATE,
   *   ERR_BAD_TEMPLATE; ERR_NO_BINDING in a bundle
   */
  async applyChatTemplate(
    messages: readonly ChatMessage[],
    options: ChatTemplateOptions = {},
  ): Promise<string> {
    return this.template.render(messages, options)
  }

  /** @internal The chat templates. */
  get template(): ChatTemplate {
    if (this.#template.templates.size > 0) return this.#template
    throw new MoeppError(
      'ERR_NO_CHAT_TEMPLATE',
      `${this.#file}: the checkpoint has no chat template. It is a base model, which continues ` +
        'texts: use generate',
    )
  }

  /** @internal The chat templates, or none. */
  get anyTemplate(): ChatTemplate {
    return this.#template
  }

  /** @internal Ids that encoding puts in front of a text. */
  get beginIds(): readonly number[] {
    return this.#before
  }

  /** @internal The text of each token. */
  get pieces(): PieceTable {
    return this.#table
  }

  /**
   * The token ids of a text. Special tokens in it, `<s>` say, are ordinary characters. The
   * byte-level form, Qwen's say, takes them for the tokens unless `splitSpecialTokens` is true: set
   * it for text from users. Half of a surrogate pair, which no text encoding can hold, is U+FFFD.
   *
   * This is also how to count tokens. It takes about 0.1 ms for 1,000 characters, and nothing else
   * runs meanwhile. For long texts that others send, take encodeAsync.
   *
   * @example
   * ```ts
   * import { loadTokenizer } from 'moepp'
   *
   * const tokenizer = await loadTokenizer('models/books-7m')
   * const count = tokenizer.encode('The old man').length // 4, with the begin token
   * console.log(count)
   * ```
   * @throws TypeError for a wrong argument
   */
  encode(text: string, options: EncodeOptions = {}): number[] {
    const ids: number[] = []
    const steps = this.#steps(text, checkAll(options, ENCODE_CHECKS, undefined), ids)
    while (!steps.next().done);
    return ids
  }

  /**
   * As encode, with the same ids, but other events run in between: no more than a few milliseconds
   * of work come at a time. generate, stream and score encode their prompts with it.
   * @example
   * ```ts
   * import { loadTokenizer } from 'moepp'
   *
   * const tokenizer = await loadTokenizer('models/books-7m')
   * const ids = await tokenizer.encodeAsync('The old man. '.repeat(100_000), {
   *   signal: AbortSignal.timeout(10_000),
   * })
   * ```
   * @throws TypeError or RangeError for a wrong argument; MoeppError ERR_ABORTED if the signal
   *   aborts
   */
  async encodeAsync(text: string, options: EncodeAsyncOptions = {}): Promise<number[]> {
    const checked = checkAll(options, ENCODE_ASYNC_CHECKS, undefined)
    const ids: number[] = []
    return finish(this.#steps(text, checked, ids), ids, checked)
  }

  /**
   * As encodeAsync, for a text in parts: ids of tokens, and the texts between them. In these,
   * special tokens are ordinary characters.
   * @internal
   */
  encodeParts(parts: readonly Part[], how: EncodeAsyncOptions): Promise<number[]> {
    const ids: number[] = []
    return finish(this.#partSteps(parts, ids), ids, how)
  }

  /**
   * The text of ids, as SentencePiece decodes them. The first piece loses the space that encoding
   * put in front. Each byte that is no part of a character gives one U+FFFD. Ids without a
   * token, beyond vocabSize say, give no text. clean_up_tokenization_spaces is not obeyed: it would
   * change what the ids say.
   *
   * @example
   * ```ts
   * import { loadTokenizer } from 'moepp'
   *
   * const tokenizer = await loadTokenizer('models/books-7m')
   * console.log(tokenizer.decode(tokenizer.encode('The old man')))
   * ```
   * @throws TypeError or RangeError for a wrong argument
   */
  decode(ids: readonly number[] | Int32Array | Uint32Array, options: DecodeOptions = {}): string {
    checkIds(ids, 'ids')
    checkAll(options, DECODE_CHECKS, undefined)
    const stream = new TextStream(this.#table, options)
    let text = ''
    for (const id of ids) text += stream.push(id)
    return text + stream.flush()
  }

  /**
   * Decodes token by token. With a prompt, the text continues the prompt's.
   *
   * @example
   * ```ts
   * import { loadTokenizer } from 'moepp'
   *
   * const tokenizer = await loadTokenizer('models/books-7m')
   * const prompt = tokenizer.encode('The old')
   * const stream = tokenizer.stream({ prompt })
   * for (const id of tokenizer.encode(' man', { addSpecialTokens: false }))
   *   process.stdout.write(stream.push(id))
   * process.stdout.write(stream.flush())
   * ```
   * @throws TypeError or RangeError for a wrong argument
   */
  stream(options: TextStreamOptions = {}): TextStream {
    checkAll(options, STREAM_CHECKS, undefined)
    return new TextStream(this.#table, options)
  }

  /**
   * True if a token is special: it stands for no text.
   *
   * @example
   * ```ts
   * import { loadTokenizer } from 'moepp'
   *
   * const tokenizer = await loadTokenizer('models/books-7m')
   * console.log(tokenizer.isSpecial(1))
   * ```
   */
  isSpecial(id: number): boolean {
    return this.#table.special.has(id)
  }

  /**
   * A token's own name: `<s>`, `▁the`, `<0x0A>`. Undefined if there is no such token.
   *
   * @example
   * ```ts
   * import { loadTokenizer } from 'moepp'
   *
   * const tokenizer = await loadTokenizer('models/books-7m')
   * console.log(tokenizer.idToToken(1))
   * ```
   */
  idToToken(id: number): string | undefined {
    return this.#contents[id]
  }

  /**
   * The token of this name; undefined if there is none.
   *
   * @example
   * ```ts
   * import { loadTokenizer } from 'moepp'
   *
   * const tokenizer = await loadTokenizer('models/books-7m')
   * console.log(tokenizer.tokenToId('<s>'))
   * ```
   */
  tokenToId(token: string): number | undefined {
    return this.#ids.get(token)
  }

  /**
   * The content of a tokenizer.json. Loading it gives a tokenizer that does the same.
   *
   * @example
   * ```ts
   * import { loadTokenizer } from 'moepp'
   *
   * const tokenizer = await loadTokenizer('models/books-7m')
   * console.log(JSON.stringify(tokenizer))
   * ```
   */
  toJSON(): TokenizerJson {
    return this.#json
  }

  *#partSteps(parts: readonly Part[], ids: number[]): Steps {
    for (const [section, part] of parts.entries()) {
      yield
      if (typeof part === 'number') ids.push(part)
      else yield* this.#encoder.encode(part, ids, this.#table.special, section)
    }
  }

  /** Appends the ids of a text. */
  *#steps(text: string, options: EncodeOptions, ids: number[]): Steps {
    const { addSpecialTokens = true, splitSpecialTokens = false } = options
    if (typeof text !== 'string') throw new TypeError(`text: expected a string, got ${typeof text}`)
    if (addSpecialTokens) ids.push(...this.#before)
    yield* this.#encoder.encode(text, ids, splitSpecialTokens ? this.#table.special : NO_IDS)
    if (addSpecialTokens) ids.push(...this.#after)
  }
}
