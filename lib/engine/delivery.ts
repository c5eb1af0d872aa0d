/** The way of a step's results to their consumers. */
import { setTimeout } from 'node:timers/promises'
import type { StepResult } from './runner.js'
import type { PlacedChunk } from './step.js'

/** Chunks whose consumers are ready come first. */
export function readyFirst(chunks: readonly PlacedChunk[]): readonly PlacedChunk[] {
  const isPending = ({ sequence }: PlacedChunk) => sequence.request.consumer.pending !== undefined
  return chunks.some(isPending)
    ? [...chunks.filter(chunk => !isPending(chunk)), ...chunks.filter(isPending)]
    : chunks
}

/** True if the chunk's consumer is not ready, and can have its row of logits later. */
export function mustWait({ sequence, logitsFrom, to, top, drafted }: PlacedChunk): boolean {
  const isOneRow = logitsFrom === to - 1 && to === sequence.tokens.length
  const isWhole = top === undefined && drafted.length === 0
  return sequence.request.consumer.pending !== undefined && isOneRow && isWhole
}

/** Waits for a chunk's consumer. False if it is not ready by `time`. */
export function isReadyBy({ sequence }: PlacedChunk, time: number): Promise<boolean> {
  const settled = Promise.resolve(sequence.request.consumer.pending).then(
    () => true,
    () => true,
  )
  const left = Math.max(0, time - performance.now())
  return Promise.race([settled, setTimeout(left, false)])
}

/** Captured rows of the chunk's tokens. */
export function deliverCaptured(
  chunk: PlacedChunk,
  stepTokens: number,
  { captured }: StepResult,
): void {
  const { sequence, from, to, tokenRow } = chunk
  const { capture, consumer } = sequence.request
  // Tokens that are computed again after a preemption were delivered before.
  const first = Math.max(from, sequence.recorded)
  if (first >= to) return
  for (const name of capture) {
    const buffer = captured[name]!
    const width = buffer.length / stepTokens
    consumer.captured?.(
      name,
      buffer.subarray((tokenRow + first - from) * width, (tokenRow + to - from) * width),
      first,
    )
  }
  sequence.recorded = to
}
