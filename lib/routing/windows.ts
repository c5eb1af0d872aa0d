/** A text's tokens in windows, each computed as a text of its own. */
import type { Tokenizer } from '../tokenizer/tokenizer.js'
import { type Segment, segments } from './segments.js'

export interface Window {
  readonly number: number
  /** Number of its first token in the text; the begin tokens are no part of that. */
  readonly first: number
  /** Begin tokens and tokens of the text. */
  readonly ids: readonly number[]
  /** UTF-16 units of the text that are encoded by now. */
  readonly characters: number
}

/**
 * Windows of `most` tokens, the begin tokens included; the last may be shorter. They have the first
 * `limit` tokens of the text.
 */
export async function* windows(
  tokenizer: Tokenizer,
  text: AsyncIterable<string>,
  begin: readonly number[],
  most: number,
  limit = Number.POSITIVE_INFINITY,
): AsyncGenerator<Window> {
  const room = most - begin.length
  let ids: number[] = []
  let number = 0
  let first = 0
  let characters = 0
  const window = (part: readonly number[]): Window => {
    const made = { number, first, ids: [...begin, ...part], characters }
    number++
    first += part.length
    return made
  }
  for await (const segment of upTo(limit, segments(tokenizer, text))) {
    ids = ids.concat(segment.ids)
    characters += segment.length
    let at = 0
    for (; ids.length - at >= room; at += room) yield window(ids.slice(at, at + room))
    ids = ids.slice(at)
  }
  if (ids.length > 0) yield window(ids)
}

async function* upTo(limit: number, each: AsyncIterable<Segment>): AsyncGenerator<Segment> {
  let left = limit
  for await (const { ids, length } of each) {
    yield { ids: ids.slice(0, left), length }
    left -= ids.length
    if (left <= 0) return
  }
}

/** Windows that are computed together. */
export async function* batches(
  each: AsyncIterable<Window>,
  windowTokens: number,
  batchTokens: number,
): AsyncGenerator<Window[]> {
  const most = Math.max(1, Math.floor(batchTokens / windowTokens))
  let batch: Window[] = []
  for await (const window of each) {
    batch.push(window)
    if (batch.length < most) continue
    yield batch
    batch = []
  }
  if (batch.length > 0) yield batch
}
