/**
 * The whole model as a recorded program. MODEL.md gives the mathematics; the buffers' names are
 * those of `forward`'s capture.
 */
import type { ProgramSpec } from '../addon/binding.js'
import type { ModelConfig } from '../config.js'
import { type Buffer, ProgramBuilder } from '../program/builder.js'
import {
  attention,
  embedding,
  gatherRows,
  linear,
  type Rotary,
  rmsNorm,
  ropeStore,
  ropeTable,
  type StepBuffers,
  topLogits,
} from '../program/ops.js'
import type { StoredRef } from '../tensor/tensor-ref.js'
import { moe, normRouteTokens } from './moe.js'
import { type MatrixDType, ModelWeights } from './weights.js'

/**
 * Logits that sampling gets instead of a whole row: more than the default topK keeps, also where
 * penalties lower many.
 */
const MOST_TOP_LOGITS = 256

export function topLogitsOf(config: ModelConfig): number {
  return Math.min(MOST_TOP_LOGITS, config.vocabSize)
}

/** The buffers that hold them; all logits are in `logits`. */
export const TOP_LOGITS = {
  values: 'top_logits.values',
  indices: 'top_logits.indices',
  expSum: 'top_logits.exp_sum',
} as const

/**
 * Records the model of `config` on the stored `tensors`, with its matrices held as `dtype`.
 */
export function recordMoepp(
  config: ModelConfig,
  tensors: ReadonlyMap<string, StoredRef>,
  dtype: MatrixDType,
): ProgramSpec {
  const c = config
  const p = new ProgramBuilder()
  const w = new ModelWeights(p, tensors, dtype)
  const step: StepBuffers = {
    positions: p.input('positions', 'i32', ['T']),
    sequenceStarts: p.input('sequence_starts', 'i32', ['B+1']),
    pageTable: p.input('page_table', 'i32', ['B', 'M']),
  }
  const rotary = ropeTable(p, 'rope_table', {
    positions: step.positions,
    sequenceStarts: step.sequenceStarts,
    frequencies: p.input('frequencies', 'f32', ['B', c.headDim / 2]),
    positionDivisor: c.ropeScaling?.type === 'linear' ? c.ropeScaling.factor : 1,
  })
  const vocabulary = [c.vocabSize, c.hiddenSize]
  const table = c.tieWordEmbeddings
    ? w.matrix('model.embed_tokens.weight', vocabulary)
    : w.table('model.embed_tokens.weight', vocabulary)
  const norm = (name: string) => w.small(name, [c.hiddenSize])

  let x = embedding(p, 'hidden_states.0', { tokens: p.input('tokens', 'i32', ['T']), table })
  let y = rmsNorm(p, 'layers.0.input_norm', {
    x,
    weight: norm('model.layers.0.input_layernorm.weight'),
    eps: c.rmsNormEps,
  })
  let previousLogits: Buffer | undefined
  for (let layer = 0; layer < c.layers; layer++) {
    const attended = selfAttention(p, w, c, layer, y, step, rotary)
    const routed = normRouteTokens(p, w, c, layer, { x, delta: attended, previousLogits })
    const last = layer === c.layers - 1
    const nextNorm = last ? 'model.norm.weight' : `model.layers.${layer + 1}.input_layernorm.weight`
    const output = moe(
      p,
      w,
      c,
      layer,
      { residual: routed.sum, x: routed.out, route: routed.route, nextNorm: norm(nextNorm) },
      {
        sum: `hidden_states.${layer + 1}`,
        out: last ? 'final_hidden' : `layers.${layer + 1}.input_norm.out`,
      },
    )
    x = output.sum
    y = output.out
    previousLogits = routed.logits
  }
  const rows = gatherRows(p, 'logit_hidden', { x: y, rows: p.input('logit_rows', 'i32', ['R']) })
  const head = c.tieWordEmbeddings ? table : w.matrix('lm_head.weight', vocabulary)
  const logits = linear(p, 'lm_head', { x: rows, weight: head }, 'logits')
  topLogits(p, 'top_logits', { logits, count: topLogitsOf(c) })
  // Each step captures what its sequences want of the logits.
  return p.finish([])
}

/** Attention on y = RMSNorm(x), output projection included: [T, H]. */
export function selfAttention(
  p: ProgramBuilder,
  w: ModelWeights,
  c: ModelConfig,
  layer: number,
  y: Buffer,
  step: StepBuffers,
  rotary: Rotary,
): Buffer {
  const scope = `layers.${layer}.attention`
  const stored = `model.layers.${layer}.self_attn`
  const columns = c.heads * c.headDim
  const qkv = linear(p, `${scope}.qkv`, {
    x: y,
    weight: w.matrix(
      `${stored}.qkv_proj`,
      [columns + 2 * c.kvHeads * c.headDim, c.hiddenSize],
      ['q_proj', 'k_proj', 'v_proj'].map(name => `${stored}.${name}.weight`),
    ),
  })
  const q = ropeStore(p, `${scope}.rope_store`, {
    qkv,
    rotary,
    step,
    layer,
    heads: c.heads,
    headDim: c.headDim,
  })
  const attended = attention(p, scope, { q, step, layer, scale: 1 / Math.sqrt(c.headDim) })
  return linear(p, `${scope}.o`, {
    x: attended,
    weight: w.matrix(`${stored}.o_proj.weight`, [c.hiddenSize, columns]),
  })
}

/** The names that a run can return beside the logits. */
export function captureNames(config: ModelConfig): string[] {
  const perLayer = ['router_logits', 'expert_indices', 'expert_weights', 'moe_output']
  const names = ['final_hidden']
  for (let layer = 0; layer < config.layers; layer++) {
    for (const name of perLayer) names.push(`layers.${layer}.${name}`)
  }
  for (let l = 0; l <= config.layers; l++) names.push(`hidden_states.${l}`)
  return names
}
