/**
 * The decoder that all families share: embedding, layers of attention and feed-forward, norm, head.
 * Norms come before what they feed, and are recorded with the residual sum before them.
 */
import type { Buffer, Weight } from '../program/builder.js'
import type { ModelBuilder } from '../program/model-builder.js'
import {
  addRmsNorm,
  embedding,
  gatherRows,
  linear,
  type Rotary,
  rmsNorm,
  ropeTable,
  type StepBuffers,
  topLogits,
} from '../program/ops.js'
import type { Rope } from './rope.js'

/**
 * Logits that sampling gets instead of a whole row: more than the default topK keeps, also where
 * penalties lower many.
 */
const MOST_TOP_LOGITS = 256

export function topLogitsOf({ vocabSize }: { readonly vocabSize: number }): number {
  return Math.min(MOST_TOP_LOGITS, vocabSize)
}

/** The buffers that hold them; all logits are in `logits`. */
export const TOP_LOGITS = {
  values: 'top_logits.values',
  indices: 'top_logits.indices',
  expSum: 'top_logits.exp_sum',
} as const

export interface DecoderShape {
  readonly vocabSize: number
  readonly hiddenSize: number
  readonly layers: number
  readonly rmsNormEps: number
  readonly tieWordEmbeddings: boolean
}

const inputNorm = (layer: number) => `model.layers.${layer}.input_layernorm.weight`

/** The inputs that attention reads in every layer. */
export interface StepInputs {
  readonly step: StepBuffers
  readonly rotary: Rotary
}

/** The residual stream x [T, H], and y = RMSNorm(x): the input of the next part. */
export interface Stream {
  readonly x: Buffer
  readonly y: Buffer
}

/** The norm after a layer's last sum: its weight [H], and the names of the sum and the result. */
export interface NextNorm {
  readonly weight: Weight
  readonly eps: number
  readonly sum: string
  readonly out: string
}

/** x + delta (attention's output), and the norm of that. */
export function postAttentionNorm(
  m: ModelBuilder,
  layer: number,
  { x, delta }: { readonly x: Buffer; readonly delta: Buffer },
  eps: number,
): { sum: Buffer; out: Buffer } {
  const name = `model.layers.${layer}.post_attention_layernorm.weight`
  const weight = m.small('norms', name, [Number(x.shape[1])])
  return addRmsNorm(m, `layers.${layer}.post_attention_norm`, { x, delta, weight, eps })
}

/** Records one layer: returns the sum with its output, and the norm `next` of that. */
export type RecordLayer = (
  layer: number,
  stream: Stream,
  inputs: StepInputs,
  next: NextNorm,
) => Stream

/** A summand of the embedding of tokens [T, H], and the factor of the sum. */
export interface AddedEmbedding {
  readonly delta: Buffer
  readonly scale: number
}

/** The parts in which families differ. */
export interface DecoderParts {
  /** The stored name of the norm before a layer. */
  readonly normOf?: (layer: number) => string
  /** The stored name of the tokens' embedding. */
  readonly tokens?: string
  readonly added?: AddedEmbedding | undefined
}

export function decoder(
  m: ModelBuilder,
  shape: DecoderShape,
  rope: Rope,
  recordLayer: RecordLayer,
  { normOf = inputNorm, tokens: stored = 'model.embed_tokens.weight', added }: DecoderParts = {},
): void {
  const { layers, hiddenSize, rmsNormEps: eps } = shape
  const step: StepBuffers = {
    positions: m.input('positions', 'i32', ['T']),
    sequenceStarts: m.input('sequence_starts', 'i32', ['B+1']),
    pageTable: m.input('page_table', 'i32', ['B', 'M']),
  }
  const rotary = ropeTable(m, 'rope_table', {
    positions: step.positions,
    sequenceStarts: step.sequenceStarts,
    frequencies: m.input('frequencies', 'f32', ['B', rope.pairs]),
    positionDivisor: rope.positionDivisor,
    magnitude: rope.magnitude,
  })
  const vocabulary = [shape.vocabSize, hiddenSize]
  const table = shape.tieWordEmbeddings
    ? m.matrix('embedding', stored, vocabulary)
    : m.table(stored, vocabulary)
  const norm = (name: string) => m.small('norms', name, [hiddenSize])

  const tokens = m.input('tokens', 'i32', ['T'])
  const x = m.capture(embedding(m, 'hidden_states.0', { tokens, table, ...added }))
  const weight = norm(normOf(0))
  let stream: Stream = { x, y: rmsNorm(m, 'layers.0.input_norm', { x, weight, eps }) }
  for (let layer = 0; layer < layers; layer++) {
    const isLast = layer === layers - 1
    stream = recordLayer(
      layer,
      stream,
      { step, rotary },
      {
        weight: norm(isLast ? 'model.norm.weight' : normOf(layer + 1)),
        eps,
        sum: `hidden_states.${layer + 1}`,
        out: isLast ? 'final_hidden' : `layers.${layer + 1}.input_norm.out`,
      },
    )
    m.capture(stream.x)
  }
  m.capture(stream.y)
  const rows = gatherRows(m, 'logit_hidden', {
    x: stream.y,
    rows: m.input('logit_rows', 'i32', ['R']),
  })
  const head = shape.tieWordEmbeddings ? table : m.matrix('head', 'lm_head.weight', vocabulary)
  const logits = linear(m, 'lm_head', { x: rows, weight: head }, 'logits')
  topLogits(m, 'top_logits', { logits, count: topLogitsOf(shape) })
}
