/**
 * Qwen3-MoE, ZEDA's Qwen3-MoE++ and Mixtral in plain TypeScript, written from the specification of
 * the golden data alone.
 */
import {
  Decoder,
  type DecoderConfig,
  type LayerOutput,
  marginOf,
  type Picks,
  type Precision,
  type Row,
  type Weights,
} from './decoder-f64.js'
import type { RopeScaling } from './rope-f64.js'

export type ZeroComputation = 'zero' | 'copy' | 'constant'

export interface FamilyConfig extends DecoderConfig {
  /** Of an expert, and of a dense layer. */
  readonly intermediate: number
  readonly denseIntermediate: number
  /** Layers without experts. */
  readonly dense: readonly boolean[]
  /** FFN experts; `zero` are the kinds of those that follow them. */
  readonly ffnExperts: number
  readonly zero: readonly ZeroComputation[]
  /** No zero-computation expert is ever chosen. */
  readonly masked: boolean
  readonly topK: number
  /** The weights of the chosen are divided by their sum. */
  readonly renormalised: boolean
  /** Names of the expert block, of its router, and of an expert's gate, up and down matrices. */
  readonly names: {
    readonly block: string
    readonly router: string
    readonly matrices: readonly [string, string, string]
  }
}

export type Json = Readonly<Record<string, unknown>>

export function ropeOf(json: Json, theta: number): Pick<DecoderConfig, 'theta' | 'scaling'> {
  const given = (json.rope_parameters ?? json.rope_scaling) as Json | null | undefined
  if (!given) return { theta: (json.rope_theta as number | undefined) ?? theta, scaling: null }
  const type = given.rope_type ?? given.type
  return {
    theta: (given.rope_theta ?? json.rope_theta ?? theta) as number,
    scaling: type === 'default' ? null : ({ ...given, type } as RopeScaling),
  }
}

/** config.json with the defaults of keys that are left out. */
export function familyConfig(json: Json): FamilyConfig {
  const [architecture] = json.architectures as string[]
  return architecture === 'MixtralForCausalLM' ? mixtralConfig(json) : qwen3Config(json)
}

export function reader(json: Json) {
  return <T>(name: string, absent: T): T => (json[name] === undefined ? absent : (json[name] as T))
}

function mixtralConfig(json: Json): FamilyConfig {
  const key = reader(json)
  const heads = key('num_attention_heads', 32)
  const hidden = key('hidden_size', 4096)
  const layers = key('num_hidden_layers', 32)
  return {
    vocab: key('vocab_size', 32000),
    hidden,
    layers,
    heads,
    kvHeads: key<number | null>('num_key_value_heads', 8) ?? heads,
    headDim: key<number | null>('head_dim', null) ?? hidden / heads,
    maxPositions: key('max_position_embeddings', 131072),
    eps: key('rms_norm_eps', 1e-5),
    ...ropeOf(json, 1e6),
    tied: key('tie_word_embeddings', false),
    window: key<number | null>('sliding_window', null),
    intermediate: key('intermediate_size', 14336),
    denseIntermediate: 0,
    dense: Array.from({ length: layers }, () => false),
    ffnExperts: key('num_local_experts', 8),
    zero: [],
    masked: false,
    topK: key('num_experts_per_tok', 2),
    renormalised: true,
    names: { block: 'block_sparse_moe', router: 'gate', matrices: ['w1', 'w3', 'w2'] },
  }
}

function qwen3Config(json: Json): FamilyConfig {
  const key = reader(json)
  const isPlusPlus = (json.architectures as string[])[0] === 'Qwen3MoePlusPlusForCausalLM'
  const heads = key('num_attention_heads', 32)
  const hidden = key('hidden_size', 2048)
  const layers = key('num_hidden_layers', 24)
  const only = key<readonly number[]>('mlp_only_layers', [])
  const step = key('decoder_sparse_step', 1)
  const types = key<readonly ZeroComputation[]>('zce_types', ['copy'])
  const counts = key<readonly number[]>('zce_nums', [64])
  return {
    vocab: key('vocab_size', 151936),
    hidden,
    layers,
    heads,
    kvHeads: key('num_key_value_heads', 4),
    headDim: key<number | null>('head_dim', null) ?? hidden / heads,
    maxPositions: key('max_position_embeddings', 32768),
    eps: key('rms_norm_eps', 1e-6),
    ...ropeOf(json, 10000),
    tied: key('tie_word_embeddings', false),
    biases: key('attention_bias', false),
    headNorms: true,
    window: key('use_sliding_window', false) ? key<number | null>('sliding_window', 4096) : null,
    intermediate: key('moe_intermediate_size', 768),
    denseIntermediate: key('intermediate_size', 6144),
    dense: Array.from({ length: layers }, (_, i) => only.includes(i) || (i + 1) % step !== 0),
    ffnExperts: key('num_experts', 128),
    zero: isPlusPlus ? types.flatMap((type, i) => Array(counts[i]!).fill(type)) : [],
    masked: isPlusPlus && key('use_zce_mask', true),
    topK: key('num_experts_per_tok', 8),
    renormalised: key('norm_topk_prob', false),
    names: { block: 'mlp', router: 'gate', matrices: ['gate_proj', 'up_proj', 'down_proj'] },
  }
}

/** One text of such a model. */
export class FamilySequence extends Decoder {
  readonly #c: FamilyConfig

  constructor(config: FamilyConfig, weights: Weights, precision: Precision) {
    super(config, weights, precision)
    this.#c = config
  }

  protected experts(y: Row, layer: number): LayerOutput {
    const { dense, names, ffnExperts, zero, masked } = this.#c
    const prefix = `model.layers.${layer}.${names.block}`
    if (dense[layer]) return { out: this.ffn(prefix, y) }
    const scores = this.times(`${prefix}.${names.router}.weight`, y)
    const logits = scores.map((score, e) => (masked && e >= ffnExperts ? -Infinity : score))
    const { picks, margin } = this.pick(logits, layer)
    const out = new Float64Array(y.length)
    for (const [k, expert] of picks.experts.entries()) {
      const result = this.#expert(prefix, expert, y)
      const weight = picks.weights[k]!
      for (let i = 0; i < out.length; i++) out[i] = this.r(out[i]! + this.r(weight * result[i]!))
    }
    const shares = zero.flatMap((kind, i) =>
      kind === 'constant' ? [...this.#shares(`${prefix}.experts.${ffnExperts + i}`, y)] : [],
    )
    return { out, routed: { logits, picks, margin, shares: Float64Array.from(shares) } }
  }

  /** The picks of a layer, and how clear they are: Position.margins. */
  protected pick(logits: Row, _layer: number): { picks: Picks; margin: number } {
    const { topK, renormalised } = this.#c
    const shares = this.softmax(logits)
    const order = Array.from(logits.keys()).sort((a, b) => logits[b]! - logits[a]! || a - b)
    const experts = order.slice(0, topK)
    const sum = experts.reduce((total, e) => this.r(total + shares[e]!), 0)
    const weights = experts.map(e => (renormalised ? this.r(shares[e]! / sum) : shares[e]!))
    return { picks: { experts, weights }, margin: marginOf(logits, topK) }
  }

  protected ffn(prefix: string, y: Row): Row {
    const [gate, up, down] = this.#c.names.matrices
    const times = (name: string, x: Row) => this.times(`${prefix}.${name}.weight`, x)
    return times(down, this.swiglu(times(gate, y), times(up, y)))
  }

  /** Of a constant expert: the share of its input, and that of its vector. */
  #shares(own: string, y: Row): Row {
    return this.softmax(this.times(`${own}.wg.weight`, y))
  }

  #expert(prefix: string, expert: number, y: Row): Row {
    const { ffnExperts, zero } = this.#c
    const own = `${prefix}.experts.${expert}`
    if (expert < ffnExperts) return this.ffn(own, y)
    const kind = zero[expert - ffnExperts]
    if (kind === 'zero') return new Float64Array(y.length)
    if (kind === 'copy') return y
    const constant = this.weight(`${own}.constant`)
    const [kept, trained] = this.#shares(own, y)
    return y.map((value, i) => this.r(this.r(kept! * value) + this.r(trained! * constant[i]!)))
  }
}
