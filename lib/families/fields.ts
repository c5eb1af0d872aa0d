/** Fields of config.json that several families read alike. */
import { isDeepStrictEqual } from 'node:util'
import type { Fields } from '../base/fields.js'
import { show } from '../base/json.js'
import { type RopeScaling, yarnAttentionFactor } from '../layers/rope.js'
import { STORED_DTYPES } from '../tensor/dtypes.js'
import type { DType } from '../tensor/tensor-ref.js'
import type { ModelConfig } from './family.js'

/** The kernels' limits: experts that one router scores, picks of a token, elements of a head. */
export const MAX_EXPERTS = 1024
export const MAX_PICKS = 16
const MAX_HEAD_DIM = 256

const TORCH_DTYPES: ReadonlyMap<unknown, DType> = new Map(Object.entries(STORED_DTYPES))

/** The keys of a text. */
export function keys(text: string): readonly string[] {
  return text.trim().split(/\s+/)
}

/**
 * Keys that transformers or a tool over it writes into every config.json and that have no part in a
 * model's computation.
 */
export const IGNORED_KEYS = keys(`
  architectures model_type auto_map transformers_version _name_or_path name_or_path _commit_hash
  _attn_implementation _attn_implementation_autoset tokenizer_class prefix finetuning_task
  task_specific_params problem_type id2label label2id num_labels use_cache output_attentions
  output_hidden_states output_scores return_dict return_dict_in_generate torchscript use_bfloat16
  tf_legacy_loss initializer_range pruned_heads chunk_size_feed_forward is_encoder_decoder is_decoder
  add_cross_attention cross_attention_hidden_size tie_encoder_decoder decoder_start_token_id
  sep_token_id remove_invalid_values max_length min_length do_sample early_stopping num_beams
  num_beam_groups diversity_penalty temperature top_k top_p typical_p repetition_penalty
  length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids
  num_return_sequences forced_bos_token_id forced_eos_token_id exponential_decay_length_penalty
  suppress_tokens begin_suppress_tokens unsloth_fixed unsloth_version
`)

/**
 * Checks the sizes of heads: head_dim as given. Null means hidden_size / num_attention_heads,
 * floored as upstream does. undefined, of a family without that key, wants a whole quotient.
 */
export function headSizes(
  fields: Fields,
  hiddenSize: number,
  heads: number,
  kvHeads: number,
  given?: number | null,
): Pick<ModelConfig, 'heads' | 'kvHeads' | 'headDim'> {
  if (given === undefined && hiddenSize % heads !== 0) {
    throw fields.bad(`hidden_size ${hiddenSize} is not a multiple of num_attention_heads ${heads}`)
  }
  const headDim = given ?? Math.floor(hiddenSize / heads)
  if (headDim % 2 !== 0 || headDim < 2 || headDim > MAX_HEAD_DIM) {
    const source = given ? 'head_dim' : `hidden_size ${hiddenSize} / num_attention_heads ${heads}`
    throw fields.bad(`${source} is ${headDim}, expected an even number from 2 to ${MAX_HEAD_DIM}`)
  }
  if (heads % kvHeads !== 0) {
    throw fields.bad(
      `num_attention_heads ${heads} is not a multiple of num_key_value_heads ${kvHeads}`,
    )
  }
  return { heads, kvHeads, headDim }
}

/** K picks of E experts, within the kernels' limits. */
export function checkExperts(fields: Fields, experts: number, topK: number): void {
  if (experts > MAX_EXPERTS)
    throw fields.bad(`a layer has ${experts} experts, expected at most ${MAX_EXPERTS}`)
  if (topK > Math.min(experts, MAX_PICKS)) {
    throw fields.bad(
      `num_experts_per_tok is ${topK}, expected at most ${Math.min(experts, MAX_PICKS)} of ${experts} experts`,
    )
  }
}

/** transformers 4.56 and later write `dtype` for `torch_dtype`. */
export function torchDtype(fields: Fields): DType | null {
  const newer = fields.take('dtype')
  const value = fields.take('torch_dtype') ?? newer
  if (value === undefined || value === null) return null
  const dtype = TORCH_DTYPES.get(value)
  if (dtype !== undefined) return dtype
  throw fields.bad(`torch_dtype is ${show(value)}, expected ${[...TORCH_DTYPES.keys()].join(', ')}`)
}

export function tokenIds(
  fields: Fields,
  defaults: { bos: number | null; eos: readonly number[] },
): Pick<ModelConfig, 'padTokenId' | 'bosTokenId' | 'eosTokenIds'> {
  return {
    padTokenId: fields.tokenId('pad_token_id', null),
    bosTokenId: fields.tokenId('bos_token_id', defaults.bos),
    eosTokenIds: fields.tokenIds('eos_token_id', defaults.eos),
  }
}

/** Every published model has it, by one name or the other; upstream would take others. */
export function siluOnly(fields: Fields): void {
  fields.only('hidden_act', ['silu', 'swish'])
}

/**
 * rope_theta and rope_scaling, or the rope_parameters that transformers 5 writes in their place.
 * Scalings are those of transformers: linear, dynamic and yarn. Two forms in one file must agree,
 * but rope_scaling may say what rope_parameters leaves out.
 */
export function ropeFields(
  fields: Fields,
  defaultTheta: number,
  maxPositionEmbeddings: number,
): Pick<ModelConfig, 'ropeTheta' | 'ropeScaling'> {
  wholeHeads(fields)
  const scaling = fields.inner('rope_scaling')
  const parameters = fields.inner('rope_parameters')
  const ropeTheta = ropeBase(fields, scaling, parameters, defaultTheta)
  const older = ropeScaling(scaling, maxPositionEmbeddings)
  const newer = ropeScaling(parameters, maxPositionEmbeddings)
  if (older !== undefined && newer && !isDeepStrictEqual(older, newer))
    throw fields.bad('rope_scaling and rope_parameters are given and name different scalings')
  const result = older ?? newer ?? null
  if (result?.yarn && ropeTheta <= 1)
    throw fields.bad(`rope_theta is ${ropeTheta}, expected a number above 1 with yarn`)
  return { ropeTheta, ropeScaling: result }
}

/** No family rotates a part of a head. */
function wholeHeads(fields: Fields): void {
  fields.only('partial_rotary_factor', [1, null])
}

/**
 * The base that is used. Beside rope_scaling, upstream does not read the one in rope_parameters.
 * transformers 5 reads one in rope_scaling, and 4.57 does not. So all that are given must agree.
 */
function ropeBase(
  fields: Fields,
  scaling: Fields | undefined,
  parameters: Fields | undefined,
  absent: number,
): number {
  const [given, older, newer] = [fields, scaling, parameters].map(from =>
    from?.given('rope_theta', key => from.number(key, 0, { above: 0 })),
  )
  const used = given ?? (scaling === undefined ? newer : undefined) ?? absent
  for (const [key, other] of Object.entries({ rope_scaling: older, rope_parameters: newer })) {
    if (other !== undefined && other !== used)
      throw fields.bad(`rope_theta is ${used}, but ${key} has rope_theta ${other}`)
  }
  return used
}

/** null: positions are not scaled; undefined: nothing is said. */
function ropeScaling(
  scaling: Fields | undefined,
  maxPositionEmbeddings: number,
): RopeScaling | null | undefined {
  if (scaling === undefined) return undefined
  wholeHeads(scaling)
  const type = scaling.take(scaling.oneOf('rope_type', 'type')) ?? undefined
  // Besides the base, the default kind reads no key.
  if (type === 'default') return null
  if (type === undefined) {
    scaling.refuseUnread([])
    return null
  }
  if (type !== 'linear' && type !== 'dynamic' && type !== 'yarn')
    throw scaling.bad(`rope_type is ${show(type)}, expected default, linear, dynamic, yarn`)
  // transformers 4.57 reads it for yarn alone.
  scaling.take('original_max_position_embeddings')
  const factor = scaling.number('factor', Number.NaN, { above: 0 })
  if (Number.isNaN(factor)) throw scaling.bad('factor is missing')
  const result: RopeScaling =
    type === 'yarn'
      ? { type, factor, yarn: yarnFields(scaling, factor, maxPositionEmbeddings) }
      : { type, factor }
  scaling.refuseUnread([])
  return result
}

/** Upstream reads some with `get(...) or default`, so that 0 is as absent. */
function yarnFields(scaling: Fields, factor: number, maxPositionEmbeddings: number) {
  const optional = (key: string) => scaling.given(key, name => scaling.number(name, 0, {}))
  const beta = (key: string) => scaling.given(key, name => scaling.number(name, 0, { from: 0 }))
  const original = scaling.integerOrNull('original_max_position_embeddings', { from: 0 })
  const mscale = optional('mscale')
  const mscaleAllDim = optional('mscale_all_dim')
  return {
    originalMaxPositions: original || maxPositionEmbeddings,
    betaFast: beta('beta_fast') || 32,
    betaSlow: beta('beta_slow') || 1,
    truncate: scaling.boolean('truncate', true),
    attentionFactor:
      optional('attention_factor') ?? yarnAttentionFactor(factor, mscale, mscaleAllDim),
    ...(mscaleAllDim && { mscaleAllDim }),
  }
}
