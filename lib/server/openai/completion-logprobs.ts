/** Log-probabilities of completions, as lists side by side. lm-evaluation-harness reads them. */
import type { TokenLogprobs } from '../../sampling/sampler.js'
import type { TextStream } from '../../tokenizer/text-stream.js'
import type { Tokenizer } from '../../tokenizer/tokenizer.js'
import { finite, tokenText } from './token-text.js'

/** One entry of each list for each token. */
export interface LogprobLists {
  readonly tokens: string[]
  /** null for the first token of a text, which nothing stands before. */
  readonly token_logprobs: (number | null)[]
  readonly top_logprobs: (Readonly<Record<string, number>> | null)[]
  /** In characters (code points) of the choice's text. */
  readonly text_offset: number[]
}

/** Turns tokens into lists, piece by piece: offsets go on from one piece to the next. */
export class LogprobWriter {
  readonly #tokenizer: Tokenizer
  readonly #stream: TextStream
  #offset: number

  /** `prompt` is what stands before the tokens, and `offset` the length of its text, if shown. */
  constructor(tokenizer: Tokenizer, prompt: readonly number[], offset: number) {
    this.#tokenizer = tokenizer
    this.#stream = tokenizer.stream({ prompt })
    this.#offset = offset
  }

  lists(entries: readonly TokenLogprobs[]): LogprobLists {
    return listsOf(this.#tokenizer, entries, ({ tokenId }) => {
      const at = this.#offset
      this.#offset += codePoints(this.#stream.push(tokenId))
      return at
    })
  }
}

/** The lists of a prompt, whose text stands before the completion's. */
export function promptLists(
  tokenizer: Tokenizer,
  ids: readonly number[],
  logprobs: readonly (TokenLogprobs | null)[],
): LogprobLists {
  const pieces = promptPieces(tokenizer, ids)
  let end = 0
  const entries = ids.map((tokenId, i) => logprobs[i] ?? { tokenId })
  return listsOf(tokenizer, entries, () => {
    const at = end
    end += codePoints(pieces.next().value ?? '')
    return at
  })
}

export function joined(a: LogprobLists, b: LogprobLists): LogprobLists {
  return {
    tokens: [...a.tokens, ...b.tokens],
    token_logprobs: [...a.token_logprobs, ...b.token_logprobs],
    top_logprobs: [...a.top_logprobs, ...b.top_logprobs],
    text_offset: [...a.text_offset, ...b.text_offset],
  }
}

/** The text of a prompt's ids, with the names of special tokens, but for a begin token. */
export function promptText(tokenizer: Tokenizer, ids: readonly number[]): string {
  return [...promptPieces(tokenizer, ids)].join('')
}

/** The text that each id adds. The last one has the rest, if the text ends inside a character. */
function* promptPieces(tokenizer: Tokenizer, ids: readonly number[]): Generator<string> {
  const stream = tokenizer.stream({ skipSpecialTokens: false })
  for (const [i, id] of ids.entries()) {
    const isBegin = i === 0 && id === tokenizer.bosTokenId
    const piece = isBegin ? '' : stream.push(id)
    yield i === ids.length - 1 ? piece + stream.flush() : piece
  }
}

export function codePoints(text: string): number {
  let count = 0
  for (const _ of text) count++
  return count
}

type Entry = { readonly tokenId: number } & Partial<TokenLogprobs>

function listsOf<E extends Entry>(
  tokenizer: Tokenizer,
  entries: readonly E[],
  offset: (entry: E) => number,
): LogprobLists {
  return {
    tokens: entries.map(({ tokenId }) => tokenText(tokenizer, tokenId)),
    token_logprobs: entries.map(({ logprob }) => (logprob === undefined ? null : finite(logprob))),
    top_logprobs: entries.map(entry => topOf(tokenizer, entry)),
    text_offset: entries.map(offset),
  }
}

/** By text. The token itself is always there. Of two tokens with one text the likelier one is. */
function topOf(
  tokenizer: Tokenizer,
  { tokenId, logprob, top }: Entry,
): LogprobLists['top_logprobs'][0] {
  if (logprob === undefined) return null
  const byText = new Map<string, number>()
  for (const each of [...top!, { tokenId, logprob }]) {
    const text = tokenText(tokenizer, each.tokenId)
    byText.set(text, Math.max(finite(each.logprob), byText.get(text) ?? -Infinity))
  }
  return Object.fromEntries(byText)
}
