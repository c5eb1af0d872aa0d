/**
 * The whole model in plain TypeScript, written from the specification of the golden data alone. It
 * shares no code with lib/ or native/: one row after another, one operation after another.
 *
 * It computes in f64, or rounds the result of every operation to f32. The distance between the two
 * says how much a correct f32 implementation may differ from the first.
 */

export type Precision = 'f64' | 'f32'

export interface ReferenceConfig {
  readonly vocab: number
  readonly hidden: number
  readonly intermediate: number
  readonly layers: number
  readonly heads: number
  readonly kvHeads: number
  readonly headDim: number
  readonly maxPositions: number
  readonly eps: number
  readonly theta: number
  readonly scaling: { readonly type: string; readonly factor: number } | null
  readonly tied: boolean
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

type Row = Float64Array
export type Weights = ReadonlyMap<string, Row>

export interface Picks {
  /** The two experts, the larger logit first. */
  readonly experts: readonly [number, number]
  readonly weights: readonly [number, number]
}

/** The results of one position. */
export interface Position {
  readonly logits: Row
  /** 0: the embedding; l: the output of layer l - 1. */
  readonly hidden: readonly Row[]
  readonly finalHidden: Row
  /** These three by layer. */
  readonly moeOutput: readonly Row[]
  readonly routerLogits: readonly Row[]
  readonly picks: readonly Picks[]
}

/** Router logits closer than this, relative to the largest, do not decide between two experts. */
const EXPERT_TIE = 2e-5

/** True if some layer's second and third expert are too close to tell. */
export function hasTie({ routerLogits }: Position): boolean {
  return routerLogits.some(row => {
    const sorted = row.toSorted((a, b) => b - a)
    return (
      sorted[1]! - sorted[2]! <
      EXPERT_TIE * Math.max(Math.abs(sorted[0]!), Math.abs(sorted.at(-1)!))
    )
  })
}

/** The token with the largest logit. */
export function likeliest({ logits }: Position): number {
  return logits.indexOf(logits.reduce((a, b) => Math.max(a, b)))
}

export function logprob({ logits }: Position, token: number): number {
  const powers = logits.reduce((sum, logit) => sum + Math.exp(logit), 0)
  return logits[token]! - Math.log(powers)
}

/**
 * The product of x and what lies in `matrix` from `at` on. A loop for each precision: most of the
 * time goes here.
 */
function dot(matrix: Row, at: number, x: Row, precision: Precision): number {
  let sum = 0
  if (precision === 'f64') for (let i = 0; i < x.length; i++) sum += matrix[at + i]! * x[i]!
  else {
    for (let i = 0; i < x.length; i++) {
      sum = Math.fround(sum + Math.fround(Math.fround(matrix[at + i]!) * Math.fround(x[i]!)))
    }
  }
  return sum
}

/** A matrix [rows, x.length] times x. */
function product(matrix: Row, x: Row, precision: Precision): Row {
  const out = new Float64Array(matrix.length / x.length)
  for (let row = 0; row < out.length; row++) out[row] = dot(matrix, row * x.length, x, precision)
  return out
}

/** Adds `share` times what lies in `row` from `from` on to `out`. */
function addShare(out: Row, share: number, row: Row, from: number, precision: Precision): void {
  if (precision === 'f64') for (let i = 0; i < out.length; i++) out[i]! += share * row[from + i]!
  else {
    for (let i = 0; i < out.length; i++) {
      out[i] = Math.fround(
        Math.fround(out[i]!) + Math.fround(Math.fround(share) * Math.fround(row[from + i]!)),
      )
    }
  }
}

const exactly = (value: number) => value

/** One text: its keys and values so far, by layer and position. */
export class ReferenceSequence {
  readonly #c: ReferenceConfig
  readonly #weights: Weights
  readonly #precision: Precision
  /** Rounds to the precision. */
  readonly #r: (value: number) => number
  readonly #keys: Row[][]
  readonly #values: Row[][]
  #base: number
  #longest: number

  constructor(config: ReferenceConfig, weights: Weights, precision: Precision) {
    this.#c = config
    this.#weights = weights
    this.#precision = precision
    this.#r = precision === 'f64' ? exactly : Math.fround
    this.#keys = Array.from({ length: config.layers }, () => [])
    this.#values = Array.from({ length: config.layers }, () => [])
    this.#base =
      config.scaling?.type === 'ntk' ? config.theta * config.scaling.factor : config.theta
    this.#longest = config.maxPositions
  }

  /** One call of upstream's forward: all of a prompt, or the next token. */
  forward(tokens: readonly number[]): Position[] {
    const { hidden, layers, tied } = this.#c
    const past = this.#keys[0]!.length
    this.#setBase(past + tokens.length)
    const embedding = this.#weight('model.embed_tokens.weight')
    const states: Row[][] = tokens.map(id => [embedding.slice(id * hidden, (id + 1) * hidden)])
    const moeOutputs: Row[][] = tokens.map(() => [])
    const routers: Row[][] = tokens.map(() => [])
    const picks: Picks[][] = tokens.map(() => [])
    for (let layer = 0; layer < layers; layer++) {
      for (const [t, state] of states.entries()) {
        const x = this.#attention(state[layer]!, layer, past + t)
        const y = this.#norm(x, `model.layers.${layer}.post_attention_layernorm.weight`)
        const logits = this.#route(y, routers[t]![layer - 1], layer)
        const pick = this.#pick(logits)
        const moe = this.#experts(y, pick, layer)
        routers[t]!.push(logits)
        picks[t]!.push(pick)
        moeOutputs[t]!.push(moe)
        state.push(this.#add(x, moe))
      }
    }
    const head = tied ? embedding : this.#weight('lm_head.weight')
    return states.map((state, t) => {
      const finalHidden = this.#norm(state[layers]!, 'model.norm.weight')
      const logits = product(head, finalHidden, this.#precision)
      return {
        logits,
        hidden: state,
        finalHidden,
        moeOutput: moeOutputs[t]!,
        routerLogits: routers[t]!,
        picks: picks[t]!,
      }
    })
  }

  #weight(name: string): Row {
    const weight = this.#weights.get(name)
    if (!weight) throw new Error(`no weight ${name}`)
    return weight
  }

  #add(a: Row, b: Row): Row {
    return a.map((value, i) => this.#r(value + b[i]!))
  }

  #norm(x: Row, name: string): Row {
    const r = this.#r
    const weight = this.#weight(name)
    let squares = 0
    for (const value of x) squares = r(squares + r(value * value))
    const inverse = r(1 / r(Math.sqrt(r(r(squares / x.length) + this.#c.eps))))
    return x.map((value, i) => r(weight[i]! * r(value * inverse)))
  }

  /** `length`: key columns of this call. */
  #setBase(length: number): void {
    const { scaling, theta, maxPositions, headDim } = this.#c
    if (scaling?.type !== 'dynamic' || length <= this.#longest) return
    this.#longest = length
    const growth = (scaling.factor * length) / maxPositions - (scaling.factor - 1)
    // At a head dim of 2 the exponent is infinite; the only frequency is base^0 all the same.
    this.#base = headDim === 2 ? theta : theta * growth ** (headDim / (headDim - 2))
  }

  /** Rotates every head of a row in place. */
  #rotate(row: Row, position: number): void {
    const r = this.#r
    const { headDim, scaling } = this.#c
    const half = headDim / 2
    const at = scaling?.type === 'linear' ? r(position / scaling.factor) : position
    for (let j = 0; j < half; j++) {
      const angle = r(at * r(this.#base ** ((-2 * j) / headDim)))
      const [cos, sin] = [r(Math.cos(angle)), r(Math.sin(angle))]
      for (let head = 0; head < row.length; head += headDim) {
        const [a, b] = [row[head + j]!, row[head + half + j]!]
        row[head + j] = r(r(a * cos) - r(b * sin))
        row[head + half + j] = r(r(b * cos) + r(a * sin))
      }
    }
  }

  /** x + Attention(RMSNorm(x)); appends the position's key and value. */
  #attention(x: Row, layer: number, position: number): Row {
    const { heads, kvHeads, headDim } = this.#c
    const prefix = `model.layers.${layer}`
    const y = this.#norm(x, `${prefix}.input_layernorm.weight`)
    const project = (name: string) =>
      product(this.#weight(`${prefix}.self_attn.${name}_proj.weight`), y, this.#precision)
    const [q, k] = [project('q'), project('k')]
    this.#rotate(q, position)
    this.#rotate(k, position)
    this.#keys[layer]!.push(k)
    this.#values[layer]!.push(project('v'))
    const joined = new Float64Array(heads * headDim)
    for (let head = 0; head < heads; head++) {
      const from = Math.floor(head / (heads / kvHeads)) * headDim
      const [start, end] = [head * headDim, (head + 1) * headDim]
      this.#attend(q.subarray(start, end), layer, from, joined.subarray(start, end))
    }
    const out = product(this.#weight(`${prefix}.self_attn.o_proj.weight`), joined, this.#precision)
    return this.#add(x, out)
  }

  /** One head: the softmax over all positions so far, and the sum of values that it weights. */
  #attend(q: Row, layer: number, from: number, out: Row): void {
    const keys = this.#keys[layer]!
    const values = this.#values[layer]!
    const scale = this.#r(Math.sqrt(q.length))
    const scores = new Float64Array(keys.length)
    for (let s = 0; s < keys.length; s++) {
      scores[s] = this.#r(dot(keys[s]!, from, q, this.#precision) / scale)
    }
    const shares = this.#softmax(scores)
    for (let s = 0; s < values.length; s++)
      addShare(out, shares[s]!, values[s]!, from, this.#precision)
  }

  #softmax(logits: ArrayLike<number>): Row {
    const r = this.#r
    let largest = -Infinity
    for (let i = 0; i < logits.length; i++) largest = Math.max(largest, logits[i]!)
    const powers = new Float64Array(logits.length)
    let sum = 0
    for (let i = 0; i < powers.length; i++) {
      powers[i] = r(Math.exp(r(logits[i]! - largest)))
      sum = r(sum + powers[i]!)
    }
    return powers.map(power => r(power / sum))
  }

  /** The accumulated router logits of one layer. */
  #route(y: Row, previous: Row | undefined, layer: number): Row {
    const r = this.#r
    const prefix = `model.layers.${layer}.mlp.moe.gate`
    const times = (name: string, x: Row) =>
      product(this.#weight(`${prefix}.${name}.weight`), x, this.#precision)
    const own = this.#c.twoLayerRouter
      ? times(
          'wg.2',
          times('wg.0', y).map(value => r(Math.tanh(value))),
        )
      : times('wg', y)
    return previous ? this.#add(own, times('gate_map', previous)) : own
  }

  #pick(logits: Row): Picks {
    const r = this.#r
    const { mixtral } = this.#c
    const z = this.#c.logitsNorm ? this.#normalised(logits) : logits
    const order = Array.from(logits.keys()).sort((a, b) => logits[b]! - logits[a]! || a - b)
    const [a, b] = [order[0]!, order[1]!]
    if (mixtral) {
      const [first, second] = this.#softmax([z[a]!, z[b]!])
      return { experts: [a, b], weights: [first!, second!] }
    }
    const shares = this.#softmax(z)
    const zero = logits.length - 1
    const kept = (expert: number) => (expert === zero ? 0 : shares[expert]!)
    const sum = r(kept(a) + kept(b))
    // The zero expert's dominance may leave nothing to divide by: its partner then has the whole
    // weight.
    if (sum === 0) return { experts: [a, b], weights: [a === zero ? 0 : 1, b === zero ? 0 : 1] }
    return { experts: [a, b], weights: [r(kept(a) / sum), r(kept(b) / sum)] }
  }

  #normalised(logits: Row): Row {
    const r = this.#r
    let mean = 0
    for (const logit of logits) mean = r(mean + logit)
    mean = r(mean / logits.length)
    let squares = 0
    for (const logit of logits) squares = r(squares + r(r(logit - mean) ** 2))
    const deviation = r(Math.sqrt(r(squares / (logits.length - 1))))
    return logits.map(logit => r(logit * r(this.#c.gateNormStd / deviation)))
  }

  #experts(y: Row, { experts, weights }: Picks, layer: number): Row {
    const r = this.#r
    const u = this.#c.doubled ? y.map(value => 2 * value) : y
    const out = new Float64Array(y.length)
    for (const k of [0, 1] as const) {
      const result = this.#expert(u, experts[k], layer)
      for (let i = 0; i < out.length; i++) out[i] = r(out[i]! + r(weights[k] * result[i]!))
    }
    return out
  }

  #expert(u: Row, expert: number, layer: number): Row {
    const r = this.#r
    const { experts, intermediate } = this.#c
    const prefix = `model.layers.${layer}.mlp.moe.experts.experts.${expert}`
    if (expert === experts - 1) return new Float64Array(u.length)
    if (expert === experts - 2) return u
    if (expert >= experts - 4) {
      const constant = this.#weight(`${prefix}.constant`)
      const [own, trained] = this.#softmax(
        product(this.#weight(`${prefix}.wg.weight`), u, this.#precision),
      )
      return u.map((value, i) => r(r(own! * value) + r(trained! * constant[i]!)))
    }
    const up = product(this.#weight(`${prefix}.up_proj.weight`), u, this.#precision)
    const inner = new Float64Array(intermediate)
    for (let i = 0; i < intermediate; i++) {
      const s = up[i]!
      inner[i] = r(r(s / r(1 + r(Math.exp(-s)))) * up[intermediate + i]!)
    }
    return product(this.#weight(`${prefix}.down_proj.weight`), inner, this.#precision)
  }
}
