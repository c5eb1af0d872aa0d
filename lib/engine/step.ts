/** Puts chunks of sequences into the arrays of one step. */
import type { Runner, Step, WantedLogits } from './runner.js'
import type { Chunk } from './scheduler.js'
import type { Sequence } from './sequence.js'

/** Rows of a chunk's results in those of the step. */
export interface PlacedChunk extends Chunk {
  /** Row of its first token in the captured buffers. */
  readonly tokenRow: number
  /** Row of its first wanted logits. */
  readonly logitRow: number
  /** First position of the chunk whose logits are wanted; `to` if none. */
  readonly logitsFrom: number
  /** The part of its logits that the step returns: see SequenceRequest. */
  readonly top: Sequence['top']
}

export interface PlannedStep {
  readonly step: Step
  readonly chunks: readonly PlacedChunk[]
}

/** A run of a chunk's tokens with one variant of keys: what the step calls a sequence. */
interface Span extends Chunk {
  readonly keyVariant: number
}

/**
 * The page table grows by so many columns, so that many steps of decoding have the same sizes: a
 * GPU records such a step once.
 */
const COLUMNS_AT_ONCE = 4

export function buildStep(
  chunks: readonly Chunk[],
  copies: Int32Array,
  runner: Runner,
): PlannedStep {
  if (chunks.length === 0) throw new Error('buildStep: a step needs at least one token')
  const spans = chunks.flatMap(spansOf)
  const T = chunks.reduce((n, { from, to }) => n + to - from, 0)
  const pages = Math.max(...chunks.map(({ sequence }) => sequence.pages.length))
  const M = Math.ceil(pages / COLUMNS_AT_ONCE) * COLUMNS_AT_ONCE
  const tokens = new Int32Array(T)
  const positions = new Int32Array(T)
  const sequenceStarts = new Int32Array(spans.length + 1)
  const pageTable = new Int32Array(spans.length * M)
  const keyVariants = Int32Array.from(spans, ({ keyVariant }) => keyVariant)
  const { reach } = runner
  const preceding = new Int32Array(T * reach)
  let t = 0
  for (const [b, span] of spans.entries()) {
    for (let position = span.from; position < span.to; position++) {
      tokens[t] = tokenAt(span, position)
      for (let d = 1; d <= Math.min(reach, position); d++)
        preceding[t * reach + d - 1] = tokenAt(span, position - d)
      positions[t++] = position
    }
    sequenceStarts[b + 1] = t
    for (const [m, page] of span.sequence.pages.entries()) pageTable[b * M + m] = page.index
  }
  const placed = place(chunks)
  const logitRows = logitRowsOf(placed)
  const capture = captureOf(chunks, runner)
  const wanted = wantedOf(placed)
  const step = {
    tokens,
    positions,
    preceding,
    sequenceStarts,
    pageTable,
    keyVariants,
    copies,
    logitRows,
    wanted,
    capture,
  }
  return { step, chunks: placed }
}

/** A token of the text, or a guess behind it. */
function tokenAt({ sequence: { tokens }, drafted }: Chunk, position: number): number {
  return tokens[position] ?? drafted[position - tokens.length]!
}

/**
 * The chunk's parts whose results are taken one after the other: the text's own tokens, then each
 * guess.
 */
export function partsOf(chunk: PlacedChunk): PlacedChunk[] {
  const own = chunk.to - chunk.drafted.length
  return [
    partOf(chunk, chunk.from, own, []),
    ...chunk.drafted.map((guess, i) => partOf(chunk, own + i, own + i + 1, [guess])),
  ]
}

function partOf(
  chunk: PlacedChunk,
  from: number,
  to: number,
  drafted: readonly number[],
): PlacedChunk {
  const logitsFrom = Math.min(Math.max(chunk.logitsFrom, from), to)
  return {
    ...chunk,
    from,
    to,
    drafted,
    logitsFrom,
    tokenRow: chunk.tokenRow + from - chunk.from,
    logitRow: chunk.logitRow + logitsFrom - chunk.logitsFrom,
  }
}

function logitRowsOf(chunks: readonly PlacedChunk[]): Int32Array {
  const rows: number[] = []
  for (const { tokenRow, from, to, logitsFrom } of chunks) {
    for (let position = logitsFrom; position < to; position++) rows.push(tokenRow + position - from)
  }
  return Int32Array.from(rows)
}

function wantedOf(chunks: readonly PlacedChunk[]): WantedLogits {
  const asked = chunks.filter(({ logitsFrom, to }) => logitsFrom < to)
  const tops = asked.map(({ top }) => top)
  const scores = asked.some(({ sequence, logitsFrom }) => logitsFrom < sequence.scoredTo)
  return {
    whole: scores || tops.includes(undefined),
    top: scores || tops.some(top => top !== undefined),
    logSumExp: scores || tops.includes('logits and logSumExp'),
  }
}

/**
 * The names that any sequence wants, in the order of the runner's, so that the same wishes make the
 * same step.
 */
function captureOf(chunks: readonly Chunk[], runner: Runner): readonly string[] {
  const wanted = new Set(chunks.flatMap(({ sequence }) => sequence.request.capture))
  return wanted.size === 0 ? [] : runner.captureNames.filter(name => wanted.has(name))
}

function place(chunks: readonly Chunk[]): PlacedChunk[] {
  let tokenRow = 0
  let logitRow = 0
  return chunks.map(chunk => {
    const logitsFrom = Math.min(Math.max(chunk.sequence.nextLogits, chunk.from), chunk.to)
    const placed = { ...chunk, tokenRow, logitRow, logitsFrom, top: chunk.sequence.top }
    tokenRow += chunk.to - chunk.from
    logitRow += chunk.to - logitsFrom
    return placed
  })
}

/**
 * One span, unless a sequence that was preempted computes tokens again whose keys are of several
 * variants, or guesses would have another one.
 */
function spansOf(chunk: Chunk): Span[] {
  const { sequence, to } = chunk
  const spans: Span[] = []
  let start = chunk.from
  for (let position = start + 1; position <= to; position++) {
    const keyVariant = sequence.keyVariantAt(start)
    if (position < to && sequence.keyVariantAt(position) === keyVariant) continue
    spans.push({ ...chunk, from: start, to: position, keyVariant })
    start = position
  }
  return spans
}
