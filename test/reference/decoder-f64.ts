/**
 * A decoder in plain TypeScript: what the families share. It shares no code with lib/ or native/:
 * one row after another, one operation after another.
 *
 * It computes in f64, or rounds the result of every operation to f32. The distance between the two
 * says how much a correct f32 implementation may differ from the first.
 */

import { Rotary, type RotaryConfig } from './rope-f64.js'

export type Precision = 'f64' | 'f32'

export interface DecoderConfig extends RotaryConfig {
  readonly vocab: number
  readonly hidden: number
  readonly layers: number
  readonly heads: number
  readonly kvHeads: number
  readonly eps: number
  /** Attentions of all layers. Default: one of each. */
  readonly attentions?: number
  readonly tied: boolean
  /** Projections of attention have biases. */
  readonly biases?: boolean
  /** Heads of queries and keys are normalised before they are rotated. */
  readonly headNorms?: boolean
  /** Columns that a query sees, its own included. */
  readonly window?: number | null
}

export type Row = Float64Array

/** A tensor. */
export interface Matrix {
  readonly name: string
  readonly shape: readonly number[]
  readonly values: Row
}

/** Tensors by name. The matrices in `quantised` take inputs that are rounded to int8. */
export interface Weights {
  readonly tensors: ReadonlyMap<string, Row>
  readonly quantised: ReadonlySet<string>
}

export interface Picks {
  readonly experts: readonly number[]
  readonly weights: readonly number[]
}

/** Networks of a layer: their output, and the router's where the layer has experts. */
export interface LayerOutput {
  readonly out: Row
  readonly routed?: {
    readonly logits: Row
    readonly picks: Picks
    /** marginOf the scores that decided. */
    readonly margin: number
    readonly shares: Row
  }
}

/** Keys and values of an attention, by position. */
export interface Cached {
  readonly keys: Row[]
  readonly values: Row[]
}

/** The results of one position. */
export interface Position {
  readonly logits: Row
  /** 0: the embedding; l: the output of layer l - 1. */
  readonly hidden: readonly Row[]
  readonly finalHidden: Row
  /** These five by layer that has experts. */
  readonly moeOutput: readonly Row[]
  readonly routerLogits: readonly Row[]
  readonly picks: readonly Picks[]
  readonly margins: readonly number[]
  /** [2C] of each constant expert the share of its input, and of its vector. */
  readonly constantShares: readonly Row[]
  /** The inputs of quantised matrices in units of their blocks' scales, before they are rounded. */
  readonly ratios: readonly Row[]
}

/** The distance of the last of `count` picks from the next candidate, relative to the largest. */
export function marginOf(scores: Row, count: number): number {
  // Masked experts are no candidates.
  const sorted = scores.filter(Number.isFinite).sort((a, b) => b - a)
  if (count >= sorted.length) return Infinity
  const size = Math.max(Math.abs(sorted[0]!), Math.abs(sorted.at(-1)!))
  return (sorted[count - 1]! - sorted[count]!) / size
}

/** A smaller margin does not decide between two experts. */
const EXPERT_TIE = 2e-5

/** True if some layer's last pick and the next expert are too close to tell. */
export function hasTie({ margins }: Position): boolean {
  return margins.some(margin => margin < EXPERT_TIE)
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
  /** By attention. */
  protected readonly cached: readonly Cached[]
  protected readonly rotary: Rotary
  /** Of the position that is computed. */
  #ratios: Row[] = []

  constructor(config: DecoderConfig, weights: Weights, precision: Precision) {
    this.#c = config
    this.#weights = weights
    this.#precision = precision
    this.r = precision === 'f64' ? exactly : Math.fround
    this.rotary = new Rotary(config, this.r)
    const length = config.attentions ?? config.layers
    this.cached = Array.from({ length }, () => ({ keys: [], values: [] }))
  }

  /** The second half of a layer on a normalised y; `previous` are the last router's logits. */
  protected abstract experts(y: Row, layer: number, previous: Row | undefined): LayerOutput

  /** One call of upstream's forward: all of a prompt, or the next token. */
  forward(tokens: readonly number[]): Position[] {
    const past = this.cached[0]!.keys.length
    this.rotary.setLength(past + tokens.length)
    return tokens.map((id, t) => this.#position(id, past + t))
  }

  #position(id: number, position: number): Position {
    const { layers, tied } = this.#c
    this.#ratios = []
    const hidden: Row[] = [this.embed(id, position)]
    const moeOutput: Row[] = []
    const routerLogits: Row[] = []
    const picks: Picks[] = []
    const margins: number[] = []
    const constantShares: Row[] = []
    for (let layer = 0; layer < layers; layer++) {
      const { x, second } = this.layer(hidden[layer]!, layer, position, routerLogits.at(-1))
      hidden.push(x)
      const { out, routed } = second
      if (!routed) continue
      moeOutput.push(out)
      routerLogits.push(routed.logits)
      picks.push(routed.picks)
      margins.push(routed.margin)
      constantShares.push(routed.shares)
    }
    const finalHidden = this.norm(hidden[layers]!, 'model.norm.weight')
    const logits = this.times(tied ? 'model.embed_tokens.weight' : 'lm_head.weight', finalHidden)
    const routed = { moeOutput, routerLogits, picks, margins, constantShares }
    return { logits, hidden, finalHidden, ...routed, ratios: this.#ratios }
  }

  protected embed(id: number, _position: number): Row {
    const { hidden: H } = this.#c
    return this.weight('model.embed_tokens.weight').slice(id * H, (id + 1) * H)
  }

  /** The stream after a layer; its second half, or what its experts add. */
  protected layer(
    x: Row,
    layer: number,
    position: number,
    previous: Row | undefined,
  ): { x: Row; second: LayerOutput } {
    const own = `model.layers.${layer}`
    const y = this.norm(x, `${own}.input_layernorm.weight`)
    const attended = this.add(x, this.attention(y, `${own}.self_attn`, layer, position))
    const normed = this.norm(attended, `${own}.post_attention_layernorm.weight`)
    const second = this.experts(normed, layer, previous)
    return { x: this.add(attended, second.out), second }
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

  protected norm(x: Row, name: string, eps = this.#c.eps): Row {
    const r = this.r
    const weight = this.weight(name)
    let squares = 0
    for (const value of x) squares = r(squares + r(value * value))
    const inverse = r(1 / r(Math.sqrt(r(r(squares / x.length) + eps))))
    return x.map((value, i) => r(weight[i]! * r(value * inverse)))
  }

  /** A projection of attention, with its bias. */
  protected project(name: string, x: Row): Row {
    const out = this.times(`${name}.weight`, x)
    return this.#c.biases ? this.add(out, this.weight(`${name}.bias`)) : out
  }

  /** Normalises each head of queries or keys, and rotates it. */
  #prepare(row: Row, norm: string, position: number): Row {
    const { headDim, headNorms } = this.#c
    for (let head = 0; headNorms && head < row.length; head += headDim)
      row.set(this.norm(row.subarray(head, head + headDim), norm), head)
    this.rotary.rotate(row, position)
    return row
  }

  /** The attention whose weights begin with `own`; caches the position's key and value. */
  protected attention(y: Row, own: string, layer: number, position: number): Row {
    const { heads, kvHeads, headDim } = this.#c
    const q = this.#prepare(this.project(`${own}.q_proj`, y), `${own}.q_norm.weight`, position)
    const k = this.#prepare(this.project(`${own}.k_proj`, y), `${own}.k_norm.weight`, position)
    const cached = this.cached[layer]!
    cached.keys.push(k)
    cached.values.push(this.project(`${own}.v_proj`, y))
    const scale = 1 / this.r(Math.sqrt(headDim))
    const joined = new Float64Array(heads * headDim)
    for (let head = 0; head < heads; head++) {
      const from = Math.floor(head / (heads / kvHeads)) * headDim
      const [start, end] = [head * headDim, (head + 1) * headDim]
      this.attend(q.subarray(start, end), cached, from, scale, joined.subarray(start, end))
    }
    return this.project(`${own}.o_proj`, joined)
  }

  /** One head: the softmax over the positions that it sees, and the sum of values it weights. */
  protected attend(q: Row, cached: Cached, from: number, scale: number, out: Row): void {
    const seen = this.#c.window ?? Number.POSITIVE_INFINITY
    const first = Math.max(0, cached.keys.length - seen)
    const keys = cached.keys.slice(first)
    const values = cached.values.slice(first)
    const scores = new Float64Array(keys.length)
    for (let s = 0; s < keys.length; s++)
      scores[s] = this.r(dot(keys[s]!, from, q, this.#precision) * scale)
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
