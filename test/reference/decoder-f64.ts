/**
 * A decoder in plain TypeScript: what the families share. It shares no code with lib/ or native/:
 * one row after another, one operation after another.
 *
 * It computes in f64, or rounds the result of every operation to f32. The distance between the two
 * says how much a correct f32 implementation may differ from the first.
 */

export type Precision = 'f64' | 'f32'

export interface RopeScaling {
  readonly type: string
  readonly factor: number
  /** Further keys of yarn. */
  readonly [key: string]: unknown
}

export interface DecoderConfig {
  readonly vocab: number
  readonly hidden: number
  readonly layers: number
  readonly heads: number
  readonly kvHeads: number
  readonly headDim: number
  readonly maxPositions: number
  readonly eps: number
  readonly theta: number
  readonly scaling: RopeScaling | null
  readonly tied: boolean
  /** Projections of attention have biases. */
  readonly biases?: boolean
  /** Heads of queries and keys are normalised before they are rotated. */
  readonly headNorms?: boolean
  /** Columns that a query sees, its own included. */
  readonly window?: number | null
}

export type Row = Float64Array

/** Tensors by name. The matrices in `quantised` take inputs that are rounded to int8. */
export interface Weights {
  readonly tensors: ReadonlyMap<string, Row>
  readonly quantised: ReadonlySet<string>
}

export interface Picks {
  readonly experts: readonly number[]
  readonly weights: readonly number[]
}

/** The second half of a layer: its output, and the router's where the layer has experts. */
export interface LayerOutput {
  readonly out: Row
  readonly routed?: { readonly logits: Row; readonly picks: Picks; readonly shares: Row }
}

/** The results of one position. */
export interface Position {
  readonly logits: Row
  /** 0: the embedding; l: the output of layer l - 1. */
  readonly hidden: readonly Row[]
  readonly finalHidden: Row
  /** These four by layer that has experts. */
  readonly moeOutput: readonly Row[]
  readonly routerLogits: readonly Row[]
  readonly picks: readonly Picks[]
  /** [2C] of each constant expert the share of its input, and of its vector. */
  readonly constantShares: readonly Row[]
  /** The inputs of quantised matrices in units of their blocks' scales, before they are rounded. */
  readonly ratios: readonly Row[]
}

/** Router logits closer than this, relative to the largest, do not decide between two experts. */
const EXPERT_TIE = 2e-5

/** True if some layer's last pick and the next expert are too close to tell. */
export function hasTie({ routerLogits, picks }: Position): boolean {
  return routerLogits.some((row, m) => {
    // Masked experts are no candidates.
    const sorted = row.filter(Number.isFinite).sort((a, b) => b - a)
    const count = picks[m]!.experts.length
    const size = Math.max(Math.abs(sorted[0]!), Math.abs(sorted.at(-1)!))
    return sorted[count - 1]! - sorted[count]! < EXPERT_TIE * size
  })
}

/** The token with the largest logit. */
export function likeliest({ logits }: Position): number {
  return logits.indexOf(logits.reduce((a, b) => Math.max(a, b)))
}

export function logprob(logits: Float32Array | Row, token: number): number {
  let powers = 0
  for (const logit of logits) powers += Math.exp(logit)
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
export abstract class Decoder {
  readonly #weights: Weights
  readonly #precision: Precision
  /** Rounds to the precision. */
  protected readonly r: (value: number) => number
  readonly #c: DecoderConfig
  readonly #keys: Row[][]
  readonly #values: Row[][]
  /** Of the position that is computed. */
  #ratios: Row[] = []
  #base: number
  #longest: number

  constructor(config: DecoderConfig, weights: Weights, precision: Precision) {
    this.#c = config
    this.#weights = weights
    this.#precision = precision
    this.r = precision === 'f64' ? exactly : Math.fround
    this.#keys = Array.from({ length: config.layers }, () => [])
    this.#values = Array.from({ length: config.layers }, () => [])
    this.#base =
      config.scaling?.type === 'ntk' ? config.theta * config.scaling.factor : config.theta
    this.#longest = config.maxPositions
  }

  /** The second half of a layer on a normalised y; `previous` are the last router's logits. */
  protected abstract experts(y: Row, layer: number, previous: Row | undefined): LayerOutput

  /** One call of upstream's forward: all of a prompt, or the next token. */
  forward(tokens: readonly number[]): Position[] {
    const past = this.#keys[0]!.length
    this.#setBase(past + tokens.length)
    return tokens.map((id, t) => this.#position(id, past + t))
  }

  #position(id: number, position: number): Position {
    const { hidden: H, layers, tied } = this.#c
    this.#ratios = []
    const hidden: Row[] = [this.weight('model.embed_tokens.weight').slice(id * H, (id + 1) * H)]
    const moeOutput: Row[] = []
    const routerLogits: Row[] = []
    const picks: Picks[] = []
    const constantShares: Row[] = []
    for (let layer = 0; layer < layers; layer++) {
      const x = this.#attention(hidden[layer]!, layer, position)
      const y = this.#norm(x, `model.layers.${layer}.post_attention_layernorm.weight`)
      const { out, routed } = this.experts(y, layer, routerLogits.at(-1))
      hidden.push(this.add(x, out))
      if (!routed) continue
      moeOutput.push(out)
      routerLogits.push(routed.logits)
      picks.push(routed.picks)
      constantShares.push(routed.shares)
    }
    const finalHidden = this.#norm(hidden[layers]!, 'model.norm.weight')
    const logits = this.times(tied ? 'model.embed_tokens.weight' : 'lm_head.weight', finalHidden)
    const routed = { moeOutput, routerLogits, picks, constantShares }
    return { logits, hidden, finalHidden, ...routed, ratios: this.#ratios }
  }

  protected weight(name: string): Row {
    const weight = this.#weights.tensors.get(name)
    if (!weight) throw new Error(`no weight ${name}`)
    return weight
  }

  /** The matrix [rows, x.length] of this name times x. */
  protected times(name: string, x: Row): Row {
    const matrix = this.weight(name)
    const isQuantised = this.#weights.quantised.has(name)
    const input = isQuantised ? this.#rounded(x) : x
    const out = new Float64Array(matrix.length / x.length)
    for (let row = 0; row < out.length; row++) {
      const at = row * x.length
      out[row] = isQuantised
        ? this.#sumOfBlocks(matrix, at, input)
        : dot(matrix, at, input, this.#precision)
    }
    return out
  }

  /** Sums of blocks are exact: they are of integers. */
  #sumOfBlocks(matrix: Row, at: number, x: Row): number {
    let sum = 0
    for (let first = 0; first < x.length; first += 128) {
      const block = x.subarray(first, first + 128)
      sum = this.r(sum + this.r(dot(matrix, at + first, block, 'f64')))
    }
    return sum
  }

  /** x as int8, by blocks of 128 with a scale each: native/ops/linear.h. */
  #rounded(x: Row): Row {
    const r = this.r
    const ratios = new Float64Array(x.length)
    const out = new Float64Array(x.length)
    for (let first = 0; first < x.length; first += 128) {
      const block = x.subarray(first, first + 128)
      const most = block.reduce((a, b) => Math.max(a, Math.abs(b)), 0)
      if (most < 2 ** -100) continue
      ratios.set(
        block.map(value => r(value * r(127 / most))),
        first,
      )
      const scale = r(most / 127)
      for (let i = first; i < first + block.length; i++) out[i] = r(Math.round(ratios[i]!) * scale)
    }
    this.#ratios.push(ratios)
    return out
  }

  protected add(a: Row, b: Row): Row {
    return a.map((value, i) => this.r(value + b[i]!))
  }

  /** silu(gate) * up. */
  protected swiglu(gate: Row, up: Row): Row {
    const r = this.r
    return gate.map((s, i) => r(r(s / r(1 + r(Math.exp(-s)))) * up[i]!))
  }

  #norm(x: Row, name: string): Row {
    const r = this.r
    const weight = this.weight(name)
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

  /** The frequencies, and the factor of sine and cosine. */
  #frequencies(): { frequencies: Row; factor: number } {
    const { headDim, theta, scaling, maxPositions } = this.#c
    const half = headDim / 2
    const plain = Float64Array.from({ length: half }, (_, j) => this.r(this.#base ** (-j / half)))
    if (scaling?.type !== 'yarn') return { frequencies: plain, factor: 1 }
    const key = (name: string) => scaling[name] as number | null | undefined
    const trained = key('original_max_position_embeddings') ?? maxPositions
    const dimension = (turns: number) =>
      (headDim * Math.log(trained / (2 * Math.PI * turns))) / (2 * Math.log(theta))
    const whole = scaling.truncate !== false
    const [low, high] = [dimension(key('beta_fast') ?? 32), dimension(key('beta_slow') ?? 1)]
    const from = Math.max(whole ? Math.floor(low) : low, 0)
    const to = Math.min(whole ? Math.ceil(high) : high, headDim - 1)
    const width = from === to ? 0.001 : to - from
    const frequencies = plain.map((frequency, j) => {
      const ramp = Math.min(Math.max((j - from) / width, 0), 1)
      return this.r(frequency * (1 - ramp) + (frequency / scaling.factor) * ramp)
    })
    const m = (scale: number) =>
      scaling.factor <= 1 ? 1 : 0.1 * scale * Math.log(scaling.factor) + 1
    const [mscale, all] = [key('mscale'), key('mscale_all_dim')]
    const factor = key('attention_factor') ?? (mscale && all ? m(mscale) / m(all) : m(1))
    return { frequencies, factor }
  }

  /** Rotates every head of a row in place. */
  #rotate(row: Row, position: number): void {
    const r = this.r
    const { headDim, scaling } = this.#c
    const half = headDim / 2
    const at = scaling?.type === 'linear' ? r(position / scaling.factor) : position
    const { frequencies, factor } = this.#frequencies()
    for (let j = 0; j < half; j++) {
      const angle = r(at * frequencies[j]!)
      const [cos, sin] = [r(Math.cos(angle) * factor), r(Math.sin(angle) * factor)]
      for (let head = 0; head < row.length; head += headDim) {
        const [a, b] = [row[head + j]!, row[head + half + j]!]
        row[head + j] = r(r(a * cos) - r(b * sin))
        row[head + half + j] = r(r(b * cos) + r(a * sin))
      }
    }
  }

  /** A projection of attention, with its bias. */
  #project(name: string, x: Row): Row {
    const out = this.times(`${name}.weight`, x)
    return this.#c.biases ? this.add(out, this.weight(`${name}.bias`)) : out
  }

  /** Normalises each head of queries or keys, and rotates it. */
  #prepare(row: Row, norm: string, position: number): Row {
    const { headDim, headNorms } = this.#c
    for (let head = 0; headNorms && head < row.length; head += headDim)
      row.set(this.#norm(row.subarray(head, head + headDim), norm), head)
    this.#rotate(row, position)
    return row
  }

  /** x + Attention(RMSNorm(x)); appends the position's key and value. */
  #attention(x: Row, layer: number, position: number): Row {
    const { heads, kvHeads, headDim } = this.#c
    const own = `model.layers.${layer}.self_attn`
    const y = this.#norm(x, `model.layers.${layer}.input_layernorm.weight`)
    const q = this.#prepare(this.#project(`${own}.q_proj`, y), `${own}.q_norm.weight`, position)
    const k = this.#prepare(this.#project(`${own}.k_proj`, y), `${own}.k_norm.weight`, position)
    this.#keys[layer]!.push(k)
    this.#values[layer]!.push(this.#project(`${own}.v_proj`, y))
    const joined = new Float64Array(heads * headDim)
    for (let head = 0; head < heads; head++) {
      const from = Math.floor(head / (heads / kvHeads)) * headDim
      const [start, end] = [head * headDim, (head + 1) * headDim]
      this.#attend(q.subarray(start, end), layer, from, joined.subarray(start, end))
    }
    return this.add(x, this.#project(`${own}.o_proj`, joined))
  }

  /** One head: the softmax over the positions that it sees, and the sum of values it weights. */
  #attend(q: Row, layer: number, from: number, out: Row): void {
    const seen = this.#c.window ?? Number.POSITIVE_INFINITY
    const first = Math.max(0, this.#keys[layer]!.length - seen)
    const keys = this.#keys[layer]!.slice(first)
    const values = this.#values[layer]!.slice(first)
    const scale = this.r(Math.sqrt(q.length))
    const scores = new Float64Array(keys.length)
    for (let s = 0; s < keys.length; s++) {
      scores[s] = this.r(dot(keys[s]!, from, q, this.#precision) / scale)
    }
    const shares = this.softmax(scores)
    for (let s = 0; s < values.length; s++)
      addShare(out, shares[s]!, values[s]!, from, this.#precision)
  }

  protected softmax(logits: ArrayLike<number>): Row {
    const r = this.r
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
}
