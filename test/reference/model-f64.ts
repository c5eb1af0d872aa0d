/** MoE++ in plain TypeScript, written from the specification of the golden data alone. */
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

export interface ReferenceConfig extends DecoderConfig {
  readonly intermediate: number
  readonly experts: number
  readonly mixtral: boolean
  readonly twoLayerRouter: boolean
  readonly logitsNorm: boolean
  readonly gateNormStd: number
  /** Experts get twice their input. */
  readonly doubled: boolean
}

/** config.json with the defaults of keys that are left out. */
export function referenceConfig(json: Readonly<Record<string, unknown>>): ReferenceConfig {
  const key = <T>(name: string, absent: T): T =>
    json[name] === undefined ? absent : (json[name] as T)
  const hidden = key('hidden_size', 4096)
  const heads = key('num_attention_heads', 32)
  const mixtral = key('moe_use_mixtral_gating', false)
  return {
    vocab: key('vocab_size', 32000),
    hidden,
    intermediate: key('intermediate_size', 11008),
    layers: key('num_hidden_layers', 32),
    heads,
    kvHeads: key<number | null>('num_key_value_heads', null) ?? heads,
    headDim: hidden / heads,
    maxPositions: key('max_position_embeddings', 2048),
    eps: key('rms_norm_eps', 1e-6),
    theta: key('rope_theta', 10000),
    scaling: key<ReferenceConfig['scaling']>('rope_scaling', null),
    tied: key('tie_word_embeddings', false),
    experts: key('num_experts', [32])[0]!,
    mixtral,
    twoLayerRouter: key('moe_2layer_gate', true),
    logitsNorm: key('moe_use_logits_norm', false),
    gateNormStd: key('moe_gate_norm_std', 1),
    doubled: !mixtral && !key('moe_feature_no_mul_topk', false),
  }
}

/** One text of a MoE++ model. */
export class ReferenceSequence extends Decoder {
  readonly #c: ReferenceConfig

  constructor(config: ReferenceConfig, weights: Weights, precision: Precision) {
    super(config, weights, precision)
    this.#c = config
  }

  protected experts(y: Row, layer: number, previous: Row | undefined): LayerOutput {
    const logits = this.#route(y, previous, layer)
    const picks = this.#pick(logits)
    const { experts } = this.#c
    const shares = [experts - 4, experts - 3].flatMap(expert => [
      ...this.#shares(this.#input(y), expert, layer),
    ])
    const margin = marginOf(logits, picks.experts.length)
    const routed = { logits, picks, margin, shares: Float64Array.from(shares) }
    return { out: this.#mix(y, picks, layer), routed }
  }

  /** The accumulated router logits of one layer. */
  #route(y: Row, previous: Row | undefined, layer: number): Row {
    const r = this.r
    const prefix = `model.layers.${layer}.mlp.moe.gate`
    const times = (name: string, x: Row) => this.times(`${prefix}.${name}.weight`, x)
    const own = this.#c.twoLayerRouter
      ? times(
          'wg.2',
          times('wg.0', y).map(value => r(Math.tanh(value))),
        )
      : times('wg', y)
    return previous ? this.add(own, times('gate_map', previous)) : own
  }

  #pick(logits: Row): Picks {
    const r = this.r
    const { mixtral } = this.#c
    const z = this.#c.logitsNorm ? this.#normalised(logits) : logits
    const order = Array.from(logits.keys()).sort((a, b) => logits[b]! - logits[a]! || a - b)
    const [a, b] = [order[0]!, order[1]!]
    if (mixtral) {
      const [first, second] = this.softmax([z[a]!, z[b]!])
      return { experts: [a, b], weights: [first!, second!] }
    }
    const shares = this.softmax(z)
    const zero = logits.length - 1
    const kept = (expert: number) => (expert === zero ? 0 : shares[expert]!)
    const sum = r(kept(a) + kept(b))
    // The zero expert's dominance may leave nothing to divide by: its partner then has the whole
    // weight.
    if (sum === 0) return { experts: [a, b], weights: [a === zero ? 0 : 1, b === zero ? 0 : 1] }
    return { experts: [a, b], weights: [r(kept(a) / sum), r(kept(b) / sum)] }
  }

  #normalised(logits: Row): Row {
    const r = this.r
    let mean = 0
    for (const logit of logits) mean = r(mean + logit)
    mean = r(mean / logits.length)
    let squares = 0
    for (const logit of logits) squares = r(squares + r(r(logit - mean) ** 2))
    const deviation = r(Math.sqrt(r(squares / (logits.length - 1))))
    return logits.map(logit => r(logit * r(this.#c.gateNormStd / deviation)))
  }

  /** The experts'. */
  #input(y: Row): Row {
    return this.#c.doubled ? y.map(value => 2 * value) : y
  }

  /** Of a constant expert: the share of its input, and that of its vector. */
  #shares(u: Row, expert: number, layer: number): Row {
    const prefix = `model.layers.${layer}.mlp.moe.experts.experts.${expert}`
    return this.softmax(this.times(`${prefix}.wg.weight`, u))
  }

  #mix(y: Row, { experts, weights }: Picks, layer: number): Row {
    const r = this.r
    const u = this.#input(y)
    const out = new Float64Array(y.length)
    for (const k of [0, 1] as const) {
      const result = this.#expert(u, experts[k]!, layer)
      for (let i = 0; i < out.length; i++) out[i] = r(out[i]! + r(weights[k]! * result[i]!))
    }
    return out
  }

  #expert(u: Row, expert: number, layer: number): Row {
    const r = this.r
    const { experts, intermediate } = this.#c
    const prefix = `model.layers.${layer}.mlp.moe.experts.experts.${expert}`
    if (expert === experts - 1) return new Float64Array(u.length)
    if (expert === experts - 2) return u
    if (expert >= experts - 4) {
      const constant = this.weight(`${prefix}.constant`)
      const [own, trained] = this.#shares(u, expert, layer)
      return u.map((value, i) => r(r(own! * value) + r(trained! * constant[i]!)))
    }
    const up = this.times(`${prefix}.up_proj.weight`, u)
    const inner = this.swiglu(up.subarray(0, intermediate), up.subarray(intermediate))
    return this.times(`${prefix}.down_proj.weight`, inner)
  }
}
