/** Puts chunks of sequences into the arrays of one step. */
import type { Runner, Step } from './runner.js'
import type { Chunk } from './scheduler.js'

/** Where a chunk's results are in those of the step. */
export interface PlacedChunk extends Chunk {
  /** Row of its first token in the captured buffers. */
  readonly tokenRow: number
  /** Row of its first wanted logits. */
  readonly logitRow: number
  /** First position of the chunk whose logits are wanted; `to` if none. */
  readonly logitsFrom: number
}

export interface PlannedStep {
  readonly step: Step
  readonly chunks: readonly PlacedChunk[]
}

/** A run of a chunk's tokens with one set of frequencies: what the step calls a sequence. */
interface Span extends Chunk {
  readonly frequencies: Float32Array
}

export function buildStep(chunks: readonly Chunk[], runner: Runner): PlannedStep {
  if (chunks.length === 0) throw new Error('buildStep: a step needs at least one token')
  const spans = chunks.flatMap(spansOf)
  const placed = place(chunks)
  const columns = Math.max(...chunks.map(({ sequence }) => sequence.pages.length))
  const tokens = concat(spans, ({ sequence, from, to }) => sequence.tokens.slice(from, to))
  const positions = concat(spans, ({ from, to }) => range(from, to))
  const pageTable = new Int32Array(spans.length * columns)
  const sequenceStarts = new Int32Array(spans.length + 1)
  const frequencies = new Float32Array(spans.reduce((n, span) => n + span.frequencies.length, 0))
  spans.forEach((span, b) => {
    sequenceStarts[b + 1] = sequenceStarts[b]! + span.to - span.from
    pageTable.set(
      span.sequence.pages.map(page => page.index),
      b * columns,
    )
    frequencies.set(span.frequencies, b * span.frequencies.length)
  })
  const logitRows = concat(placed, ({ tokenRow, from, to, logitsFrom }) =>
    range(tokenRow + logitsFrom - from, tokenRow + to - from),
  )
  // In the order of the runner's names, so that the same wishes make the same step.
  const wanted = new Set(chunks.flatMap(({ sequence }) => sequence.request.capture))
  const capture = wanted.size === 0 ? [] : runner.captureNames.filter(name => wanted.has(name))
  const step = { tokens, positions, sequenceStarts, pageTable, frequencies, logitRows, capture }
  return { step, chunks: placed }
}

function place(chunks: readonly Chunk[]): PlacedChunk[] {
  let tokenRow = 0
  let logitRow = 0
  return chunks.map(chunk => {
    const logitsFrom = Math.min(Math.max(chunk.sequence.nextLogits, chunk.from), chunk.to)
    const placed = { ...chunk, tokenRow, logitRow, logitsFrom }
    tokenRow += chunk.to - chunk.from
    logitRow += chunk.to - logitsFrom
    return placed
  })
}

/** One span, unless a sequence that was preempted computes tokens again that had frequencies of their own. */
function spansOf({ sequence, from, to }: Chunk): Span[] {
  const spans: Span[] = []
  let start = from
  for (let position = from + 1; position <= to; position++) {
    const frequencies = sequence.frequencies[start]!
    if (position < to && sequence.frequencies[position] === frequencies) continue
    spans.push({ sequence, from: start, to: position, frequencies })
    start = position
  }
  return spans
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, i) => from + i)
}

function concat<T>(parts: readonly T[], values: (part: T) => number[]): Int32Array {
  return Int32Array.from(parts.flatMap(values))
}
