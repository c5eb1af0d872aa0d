/** Texts as tokens, split as the harness splits them: lm_eval/api/model.py and lm_eval/utils.py. */

import { MoeppError } from '../errors.js'
import { strip } from '../template/text-methods.js'
import type { Tokenizer } from '../tokenizer/tokenizer.js'
import type { Request } from './forms.js'

/** Tokens, and those whose probability after them is wanted. */
export interface Pair {
  readonly context: readonly number[]
  readonly continuation: readonly number[]
}

export class Encoding {
  readonly #tokenizer: Tokenizer
  readonly #most: number
  readonly #addSpecialTokens: boolean
  /** The choices of a question mostly have one context. */
  #last: { readonly text: string; readonly ids: readonly number[] } | undefined

  /** `most` is the number of tokens that the model can read at once. */
  constructor(tokenizer: Tokenizer, most: number, addSpecialTokens: boolean) {
    this.#tokenizer = tokenizer
    this.#most = most
    this.#addSpecialTokens = addSpecialTokens
  }

  /**
   * Whitespace at the context's end belongs to the continuation. Both are encoded as one text, and
   * split behind as many tokens as the context has alone.
   *
   * A context that is too long loses its first tokens: `wasCut`.
   * @throws MoeppError ERR_BAD_PROMPT if the continuation has no tokens or too many
   */
  pair(request: Request, where: string): Pair & { readonly wasCut: boolean } {
    const { context, continuation } = this.#split(request)
    const fault =
      context.length === 0
        ? 'the context has no token'
        : continuation.length === 0
          ? 'the answer has no token of its own'
          : continuation.length > this.#most
            ? `the answer has ${continuation.length} tokens, expected at most ${this.#most}`
            : undefined
    if (fault !== undefined) throw new MoeppError('ERR_BAD_PROMPT', `${where}: ${fault}`)
    // The last token is predicted, and not read.
    const room = this.#most + 1 - continuation.length
    return { context: context.slice(-room), continuation, wasCut: context.length > room }
  }

  #split({ context, continuation }: Request): Pair {
    if (context === '') return this.#withoutContext(continuation)
    const kept = strip(context, undefined, false, true)
    const before = this.#contextIds(kept)
    const whole = this.#encode(context + continuation)
    return { context: before, continuation: whole.slice(before.length) }
  }

  /** After the token that begins a text, unless the continuation has it. */
  #withoutContext(continuation: string): Pair {
    const ids = this.#tokenizer.encode(continuation, { addSpecialTokens: false })
    const prefix = this.#prefix
    return ids[0] === prefix
      ? { context: [prefix], continuation: ids.slice(1) }
      : { context: [prefix], continuation: ids }
  }

  #contextIds(text: string): readonly number[] {
    if (this.#last?.text !== text) this.#last = { text, ids: this.#encode(text) }
    return this.#last.ids
  }

  #encode(text: string): readonly number[] {
    return this.#tokenizer.encode(text, { addSpecialTokens: this.#addSpecialTokens })
  }

  /**
   * A whole text in windows of at most `most` tokens. Each token is predicted once. The first
   * window follows the begin token. Each later one predicts `stride` tokens after all that fit
   * before them. A stride of `most` leaves one token of context: the harness's disjoint windows.
   */
  async windows(text: string, stride: number, signal?: AbortSignal): Promise<Pair[]> {
    const ids = await this.#tokenizer.encodeAsync(text, {
      addSpecialTokens: this.#addSpecialTokens,
      ...(signal && { signal }),
    })
    const pairs: Pair[] = []
    let done = Math.min(this.#most, ids.length)
    if (done > 0) pairs.push({ context: [this.#prefix], continuation: ids.slice(0, done) })
    while (done < ids.length) {
      const end = Math.min(done + stride, ids.length)
      const start = end - this.#most - 1
      pairs.push({ context: ids.slice(start, done), continuation: ids.slice(done, end) })
      done = end
    }
    return pairs
  }

  get #prefix(): number {
    const { bosTokenId, eosTokenId } = this.#tokenizer
    const prefix = bosTokenId ?? eosTokenId
    if (prefix !== undefined) return prefix
    const message = 'the tokenizer has no begin and no end token, expected one to score texts after'
    throw new MoeppError('ERR_BAD_TOKENIZER', message)
  }
}
