/**
 * The names and shapes of a MoE++ checkpoint's tensors, and the check of a checkpoint against its
 * configuration.
 */

import { show } from '../base/json.js'
import type { ModelConfig } from '../config.js'
import { MoeppError } from '../errors.js'
import type { StoredRef } from '../tensor/tensor-ref.js'
import type { Checkpoint } from './checkpoint.js'

export interface ExpectedTensor {
  readonly name: string
  readonly shape: readonly number[]
}

/**
 * Every tensor that the model reads, in the order of the forward pass. Matrices are [out, in]. A
 * generator, because a configuration may claim any number of layers.
 */
export function* modelTensors(config: ModelConfig): Generator<ExpectedTensor> {
  const { vocabSize, hiddenSize, layers } = config
  yield { name: 'model.embed_tokens.weight', shape: [vocabSize, hiddenSize] }
  for (let layer = 0; layer < layers; layer++) {
    const prefix = `model.layers.${layer}`
    yield { name: `${prefix}.input_layernorm.weight`, shape: [hiddenSize] }
    yield* attentionTensors(`${prefix}.self_attn`, config)
    yield { name: `${prefix}.post_attention_layernorm.weight`, shape: [hiddenSize] }
    yield* routerTensors(`${prefix}.mlp.moe.gate`, layer, config)
    yield* expertTensors(`${prefix}.mlp.moe.experts.experts`, config)
  }
  yield { name: 'model.norm.weight', shape: [hiddenSize] }
  if (!config.tieWordEmbeddings) yield { name: 'lm_head.weight', shape: [vocabSize, hiddenSize] }
}

/**
 * The weight of the recorded model that holds a tensor: attention's projections are one weight, and
 * so are the experts' matrices. A packed checkpoint stores it whole, under this name.
 */
export function weightOf(tensor: string): string {
  return tensor
    .replace(/(\.self_attn)\.[qkv]_proj\.weight$/, '$1.qkv_proj')
    .replace(/(\.experts\.experts)\.\d+\.(up|down)_proj\.weight$/, '$1.$2_proj')
}

/**
 * The references of the model's tensors, in the order of modelTensors; of packed weights by the
 * weight's name, their shapes not yet compared. Throws ERR_BAD_WEIGHTS for the first that is
 * missing, of another shape or of an element type that moepp does not compute with. Names that the
 * model does not have (`rotary_emb.inv_freq` of older checkpoints) are left out.
 */
export function checkTensors(
  config: ModelConfig,
  checkpoint: Checkpoint,
): ReadonlyMap<string, StoredRef> {
  const checked = new Map<string, StoredRef>()
  for (const { name, shape } of modelTensors(config)) {
    const packed = checkpoint.packed.get(weightOf(name))
    if (packed !== undefined) {
      checked.set(weightOf(name), packed)
      continue
    }
    const tensor = checkpoint.tensors.get(name)
    if (tensor === undefined) throw missing(checkpoint, name)
    if (
      tensor.shape.length !== shape.length ||
      tensor.shape.some((size, axis) => size !== shape[axis])
    ) {
      throw new MoeppError(
        'ERR_BAD_WEIGHTS',
        `${name}: weight is ${show(tensor.shape)} ${tensor.dtype}, expected ${show(shape)} (${tensor.file})`,
      )
    }
    checked.set(name, tensor)
  }
  return checked
}

function missing({ directory, unusable }: Checkpoint, name: string): MoeppError {
  const dtype = unusable.get(name)
  if (dtype === undefined)
    return new MoeppError('ERR_BAD_WEIGHTS', `${name}: missing in ${directory}`)
  return new MoeppError(
    'ERR_BAD_WEIGHTS',
    `${name}: weight is of type ${dtype}, expected float32, float16 or bfloat16 (${directory})`,
  )
}

function* attentionTensors(prefix: string, config: ModelConfig): Generator<ExpectedTensor> {
  const { hiddenSize, heads, kvHeads, headDim } = config
  yield { name: `${prefix}.q_proj.weight`, shape: [heads * headDim, hiddenSize] }
  yield { name: `${prefix}.k_proj.weight`, shape: [kvHeads * headDim, hiddenSize] }
  yield { name: `${prefix}.v_proj.weight`, shape: [kvHeads * headDim, hiddenSize] }
  yield { name: `${prefix}.o_proj.weight`, shape: [hiddenSize, heads * headDim] }
}

function* routerTensors(
  prefix: string,
  layer: number,
  config: ModelConfig,
): Generator<ExpectedTensor> {
  const { hiddenSize, experts, twoLayerRouter } = config
  if (twoLayerRouter) {
    yield { name: `${prefix}.wg.0.weight`, shape: [8 * experts, hiddenSize] }
    yield { name: `${prefix}.wg.2.weight`, shape: [experts, 8 * experts] }
  } else {
    yield { name: `${prefix}.wg.weight`, shape: [experts, hiddenSize] }
  }
  // Layer 0 has no layer before it. Checkpoints hold its gate_map all the same; nothing reads it.
  if (layer > 0) yield { name: `${prefix}.gate_map.weight`, shape: [experts, experts] }
}

function* expertTensors(prefix: string, config: ModelConfig): Generator<ExpectedTensor> {
  const { hiddenSize, intermediateSize, ffnExperts } = config
  for (let expert = 0; expert < ffnExperts; expert++) {
    yield { name: `${prefix}.${expert}.up_proj.weight`, shape: [2 * intermediateSize, hiddenSize] }
    yield { name: `${prefix}.${expert}.down_proj.weight`, shape: [hiddenSize, intermediateSize] }
  }
  // The two constant experts. The copy and the zero expert after them have no weights.
  for (let expert = ffnExperts; expert < ffnExperts + 2; expert++) {
    yield { name: `${prefix}.${expert}.wg.weight`, shape: [2, hiddenSize] }
    yield { name: `${prefix}.${expert}.constant`, shape: [hiddenSize] }
  }
}
