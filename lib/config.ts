/**
 * config.json, checked. A key or value may change the computation in a way that moepp does not
 * follow exactly. It is then refused by name: a wrong number is worse than an error.
 *
 * Names and defaults are those of upstream's MoeConfig, which are not the released 7B model's
 * values.
 */

import { join } from 'node:path'
import { Fields, readConfigJson } from './base/fields.js'
import { isObject, show } from './base/json.js'
import type { DType } from './tensor/tensor-ref.js'

/**
 * Scaling of positions beyond the trained length (MODEL.md, section 2).
 *
 * @example
 * ```ts
 * import { loadModel, type RopeScaling } from 'moepp'
 *
 * const model = await loadModel('npm:moepp-books-7m')
 * const scaling: RopeScaling | null = model.config.ropeScaling
 * console.log(scaling ? `${scaling.type}, factor ${scaling.factor}` : 'positions are not scaled')
 * ```
 */
export interface RopeScaling {
  /** The formula of the scaling. */
  readonly type: 'linear' | 'dynamic' | 'ntk'
  /** Above 1. */
  readonly factor: number
}

/**
 * The checked config.json of a checkpoint. MODEL.md says what each value does.
 *
 * @example
 * ```ts
 * import { loadModel, type ModelConfig } from 'moepp'
 *
 * const model = await loadModel('npm:moepp-books-7m')
 * const config: ModelConfig = model.config
 * console.log(`${config.layers} layers, ${config.ffnExperts} of ${config.experts} experts compute`)
 * await model.close()
 * ```
 */
export interface ModelConfig {
  /** V: tokens that the embedding and the output head know. */
  readonly vocabSize: number
  /** H: elements of a token's hidden state. */
  readonly hiddenSize: number
  /** Of each FFN expert. */
  readonly intermediateSize: number
  /** L: transformer layers. */
  readonly layers: number
  /** Query heads. */
  readonly heads: number
  /** Key and value heads; a divisor of `heads`. */
  readonly kvHeads: number
  /** hiddenSize / heads; even. */
  readonly headDim: number
  /** The length at which dynamic RoPE changes its base. Not a limit on the length. */
  readonly maxPositionEmbeddings: number
  /** Added to the mean square in each RMSNorm. */
  readonly rmsNormEps: number
  /** Base of the rotary frequencies. */
  readonly ropeTheta: number
  /** null: positions are not scaled. */
  readonly ropeScaling: RopeScaling | null
  /** True if the output head is the embedding. */
  readonly tieWordEmbeddings: boolean
  /** E: the FFN experts, then two constant experts, the copy expert and the zero expert. */
  readonly experts: number
  /** N = E - 4. */
  readonly ffnExperts: number
  /** K: experts that each token chooses. */
  readonly topK: 2
  /** Softmax over the two chosen logits; else over all, with the zero expert's weight dropped. */
  readonly mixtralGating: boolean
  /** True if the router has a hidden layer of 8 E with tanh. */
  readonly twoLayerRouter: boolean
  /** Router logits are scaled to the standard deviation gateNormStd. */
  readonly logitsNorm: boolean
  /** The standard deviation of `logitsNorm`. */
  readonly gateNormStd: number
  /** Factor of the experts' input (not the router's): upstream doubles it unless told not to. */
  readonly inputScale: 1 | 2
  /** The padding token; null if there is none. */
  readonly padTokenId: number | null
  /** The beginning-of-sequence token; null if there is none. */
  readonly bosTokenId: number | null
  /** Generation ends at any of these; config.json holds one, a list or null. */
  readonly eosTokenIds: readonly number[]
  /**
   * Type that the weights are said to be stored in; null if config.json does not say. The files
   * decide.
   */
  readonly torchDtype: DType | null
}

/**
 * Keys that transformers writes into every config.json and that have no part in this model's
 * computation.
 */
const IGNORED_KEYS: ReadonlySet<string> = new Set(
  `
  architectures auto_map transformers_version _name_or_path name_or_path _commit_hash _attn_implementation
  _attn_implementation_autoset tokenizer_class prefix finetuning_task task_specific_params problem_type id2label
  label2id num_labels use_cache output_attentions output_hidden_states output_scores return_dict
  return_dict_in_generate torchscript use_bfloat16 tf_legacy_loss initializer_range pruned_heads
  chunk_size_feed_forward is_encoder_decoder is_decoder add_cross_attention cross_attention_hidden_size
  tie_encoder_decoder decoder_start_token_id sep_token_id remove_invalid_values
  sliding_window rotary_percent
  max_length min_length do_sample early_stopping num_beams num_beam_groups diversity_penalty temperature top_k top_p
  typical_p repetition_penalty length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids
  num_return_sequences forced_bos_token_id forced_eos_token_id exponential_decay_length_penalty suppress_tokens
  begin_suppress_tokens
  `
    .trim()
    .split(/\s+/),
)

const TORCH_DTYPES: ReadonlyMap<unknown, DType> = new Map([
  ['float32', 'f32'],
  ['float16', 'f16'],
  ['bfloat16', 'bf16'],
])

const ROPE_TYPES = ['linear', 'dynamic', 'ntk']
/** Two constant experts, copy, zero. */
const ZERO_COMPUTATION_EXPERTS = 4
/** The kernels' limits: experts that one router scores, and elements of a head. */
const MAX_EXPERTS = 256
const MAX_HEAD_DIM = 256

/** Reads and checks a model directory's config.json. */
export async function readConfig(directory: string): Promise<ModelConfig> {
  const path = join(directory, 'config.json')
  return parseConfig(await readConfigJson(path), path)
}

/** Checks a parsed config.json; `where` names it in errors. */
export function parseConfig(json: unknown, where: string): ModelConfig {
  const fields = new Fields(json, where)
  refuseOtherModels(fields)
  const sizes = parseSizes(fields)
  checkTensorParallel(fields, sizes)
  const mixtralGating = fields.boolean('moe_use_mixtral_gating', false)
  const noDoubling = fields.boolean('moe_feature_no_mul_topk', false)
  const config: ModelConfig = {
    ...sizes,
    rmsNormEps: fields.number('rms_norm_eps', 1e-6, { from: 0 }),
    ropeTheta: fields.number('rope_theta', 10000, { above: 0 }),
    ropeScaling: parseRopeScaling(fields),
    tieWordEmbeddings: fields.boolean('tie_word_embeddings', false),
    topK: 2,
    mixtralGating,
    twoLayerRouter: fields.boolean('moe_2layer_gate', true),
    logitsNorm: fields.boolean('moe_use_logits_norm', false),
    gateNormStd: fields.number('moe_gate_norm_std', 1, { above: 0 }),
    inputScale: mixtralGating || noDoubling ? 1 : 2,
    padTokenId: fields.tokenId('pad_token_id', null),
    bosTokenId: fields.tokenId('bos_token_id', 1),
    eosTokenIds: fields.tokenIds('eos_token_id', [2]),
    torchDtype: parseTorchDtype(fields),
  }
  fields.refuseUnread(IGNORED_KEYS)
  return config
}

function refuseOtherModels(fields: Fields): void {
  fields.only('model_type', ['MoE++'])
  // Upstream's experts use silu whatever this says.
  fields.take('hidden_act')
  // Upstream's dense layer fails at its first call, so that another interval has no defined result.
  fields.only('moe_expert_interval', [1])
}

type Sizes = Pick<
  ModelConfig,
  | ('vocabSize' | 'hiddenSize' | 'intermediateSize' | 'layers' | 'maxPositionEmbeddings')
  | ('heads' | 'kvHeads' | 'headDim' | 'experts' | 'ffnExperts')
>

function parseSizes(fields: Fields): Sizes {
  const hiddenSize = fields.integer('hidden_size', 4096, { from: 1 })
  const heads = fields.integer('num_attention_heads', 32, { from: 1 })
  const kvHeads = fields.integerOrNull('num_key_value_heads', { from: 1 }) ?? heads
  if (hiddenSize % heads !== 0) {
    throw fields.bad(`hidden_size ${hiddenSize} is not a multiple of num_attention_heads ${heads}`)
  }
  const headDim = hiddenSize / heads
  if (headDim % 2 !== 0) {
    throw fields.bad(
      `hidden_size ${hiddenSize} / num_attention_heads ${heads} is ${headDim}, expected an even number`,
    )
  }
  if (headDim > MAX_HEAD_DIM) {
    throw fields.bad(
      `hidden_size / num_attention_heads is ${headDim}, expected at most ${MAX_HEAD_DIM}`,
    )
  }
  if (heads % kvHeads !== 0) {
    throw fields.bad(
      `num_attention_heads ${heads} is not a multiple of num_key_value_heads ${kvHeads}`,
    )
  }
  const experts = parseExperts(fields)
  return {
    vocabSize: fields.integer('vocab_size', 32000, { from: 1 }),
    hiddenSize,
    intermediateSize: fields.integer('intermediate_size', 11008, { from: 1 }),
    layers: fields.integer('num_hidden_layers', 32, { from: 1 }),
    heads,
    kvHeads,
    headDim,
    maxPositionEmbeddings: fields.integer('max_position_embeddings', 2048, { from: 1 }),
    experts,
    ffnExperts: experts - ZERO_COMPUTATION_EXPERTS,
  }
}

/** Upstream takes the first entry of the list for every layer, whatever the others are. */
function parseExperts(fields: Fields): number {
  const list = fields.take('num_experts') ?? [32]
  const experts: unknown = Array.isArray(list) ? list[0] : undefined
  if (
    Number.isInteger(experts) &&
    (experts as number) >= ZERO_COMPUTATION_EXPERTS &&
    (experts as number) <= MAX_EXPERTS
  ) {
    return experts as number
  }
  throw fields.bad(
    `num_experts is ${show(list)}, expected a list that begins with a number from ${ZERO_COMPUTATION_EXPERTS} to ${MAX_EXPERTS}`,
  )
}

/**
 * pretraining_tp slices the attention's and the output head's matrices, which changes only the
 * order of summation, if the slices are whole. Otherwise upstream drops logits or fails.
 */
function checkTensorParallel(
  fields: Fields,
  { vocabSize, hiddenSize, kvHeads, headDim }: Sizes,
): void {
  const slices = fields.integer('pretraining_tp', 1, { from: 1 })
  const sliced = {
    vocab_size: vocabSize,
    hidden_size: hiddenSize,
    'num_key_value_heads * head_dim': kvHeads * headDim,
  }
  for (const [name, size] of Object.entries(sliced)) {
    if (size % slices !== 0)
      throw fields.bad(`pretraining_tp ${slices} does not divide ${name} ${size}`)
  }
}

/**
 * Upstream refuses a factor that Python reads as an integer (`2`, not `2.0`). JSON.parse cannot
 * tell the two apart and they mean the same, so both are accepted.
 */
function parseRopeScaling(fields: Fields): RopeScaling | null {
  const value = fields.take('rope_scaling')
  if (value === undefined || value === null) return null
  const { type, factor, ...others } = isObject(value) ? value : {}
  const other = Object.keys(others)[0]
  if (other !== undefined) throw fields.bad(`rope_scaling has the unknown key ${show(other)}`)
  if (typeof type !== 'string' || !ROPE_TYPES.includes(type)) {
    throw fields.bad(`rope_scaling.type is ${show(type)}, expected ${ROPE_TYPES.join(', ')}`)
  }
  if (typeof factor !== 'number' || !Number.isFinite(factor) || factor <= 1) {
    throw fields.bad(`rope_scaling.factor is ${show(factor)}, expected a number above 1`)
  }
  return { type: type as RopeScaling['type'], factor }
}

/** transformers 4.56 and later write `dtype` for `torch_dtype`. */
function parseTorchDtype(fields: Fields): DType | null {
  const newer = fields.take('dtype')
  const value = fields.take('torch_dtype') ?? newer
  if (value === undefined || value === null) return null
  const dtype = TORCH_DTYPES.get(value)
  if (dtype !== undefined) return dtype
  throw fields.bad(`torch_dtype is ${show(value)}, expected ${[...TORCH_DTYPES.keys()].join(', ')}`)
}
