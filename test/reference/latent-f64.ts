/**
 * GLM-4.7-Flash, ZEDA's GLM-4.7-Flash++ and LongCat-Flash in plain TypeScript, written from the
 * specification of the golden data.
 *
 * The up-projection is two matrices of each head (headParts). A query is multiplied by the first:
 * q (K c) = (q K) c. Quantised, the two forms have different inputs to round.
 */
import {
  type LayerOutput,
  type Matrix,
  marginOf,
  type Picks,
  type Position,
  type Precision,
  type Row,
  type Weights,
} from './decoder-f64.js'
import {
  type FamilyConfig,
  FamilySequence,
  type Json,
  reader,
  ropeOf,
  type ZeroComputation,
} from './families-f64.js'

/** Of the norms within attention. */
const INNER_EPS = 1e-6

export interface LatentConfig extends FamilyConfig {
  /** null: queries are not compressed. */
  readonly queryRank: number | null
  readonly latentRank: number
  /** Elements of a head's query that are not rotated; `headDim` are. */
  readonly plainDim: number
  readonly valueDim: number
  /** Of the scores, and of normalised latents. */
  readonly scale: number
  readonly latentScale: number
  /** Rotated pairs are neighbours. */
  readonly interleaved: boolean
  readonly routedScale: number
  /** Name of the bias of the choice, under a layer. */
  readonly choiceBias: string
  /** GLM's. Layers of LongCat have two attentions and no shared expert. */
  readonly glm?: {
    readonly masked: boolean
    readonly groups: number
    readonly chosenGroups: number
    /** Intermediate elements. */
    readonly shared: number
  }
  /** The Lite's embedding. */
  readonly ngrams?: {
    /** Tokens of the longest. */
    readonly order: number
    readonly splits: number
    readonly ratio: number
    readonly eos: number
  }
}

/** config.json with the defaults of keys that are left out. */
export function latentConfig(json: Json): LatentConfig {
  return /^Longcat/.test((json.architectures as string[])[0]!)
    ? longcatConfig(json)
    : glmConfig(json)
}

interface Defaults {
  readonly sizes: readonly [queryRank: number, latentRank: number, plain: number, value: number]
  readonly vocab: number
  readonly hidden: number
  readonly heads: number
  readonly maxPositions: number
  readonly theta: number
}

/** The keys that both families have. */
function attentionOf(json: Json, d: Defaults) {
  const key = reader(json)
  const [queryRank, latentRank, plain, value] = d.sizes
  const heads = key('num_attention_heads', d.heads)
  const headDim = key('qk_rope_head_dim', 64)
  const plainDim = key('qk_nope_head_dim', plain)
  const rope = ropeOf(json, d.theta)
  const factor = rope.scaling?.factor ?? 1
  const all = Number(rope.scaling?.mscale_all_dim ?? 0)
  const magnitude = factor > 1 ? 0.1 * all * Math.log(factor) + 1 : 1
  return {
    vocab: key('vocab_size', d.vocab),
    hidden: key('hidden_size', d.hidden),
    heads,
    kvHeads: heads,
    headDim,
    plainDim,
    queryRank: key<number | null>('q_lora_rank', queryRank),
    latentRank: key('kv_lora_rank', latentRank),
    valueDim: key('v_head_dim', value),
    scale: magnitude ** 2 / Math.sqrt(plainDim + headDim),
    maxPositions: key('max_position_embeddings', d.maxPositions),
    eps: key('rms_norm_eps', 1e-5),
    ...rope,
    tied: key('tie_word_embeddings', false),
    biases: key('attention_bias', false),
    masked: false,
  }
}

const MATRICES = ['gate_proj', 'up_proj', 'down_proj'] as const

function glmConfig(json: Json): LatentConfig {
  const key = reader(json)
  const isPlusPlus = (json.architectures as string[])[0] === 'Glm4MoeLitePlusPlusForCausalLM'
  const layers = key('num_hidden_layers', 47)
  const types = key<readonly ZeroComputation[]>('zce_types', ['copy'])
  const counts = key<readonly number[]>('zce_nums', [64])
  const networks = key<readonly string[] | null>('mlp_layer_types', null)
  const intermediate = key('moe_intermediate_size', 1536)
  return {
    ...attentionOf(json, {
      ...{ sizes: [768, 512, 192, 256], vocab: 154880, hidden: 2048, heads: 20 },
      ...{ maxPositions: 202752, theta: 1e6 },
    }),
    layers,
    latentScale: 1,
    interleaved: key('rope_interleave', true),
    intermediate,
    denseIntermediate: key('intermediate_size', 10240),
    dense: Array.from({ length: layers }, (_, i) => (networks ? networks[i] === 'dense' : i === 0)),
    ffnExperts: key('n_routed_experts', 64),
    zero: isPlusPlus ? types.flatMap((type, i) => Array(counts[i]!).fill(type)) : [],
    topK: key('num_experts_per_tok', 4),
    renormalised: key('norm_topk_prob', true),
    routedScale: key('routed_scaling_factor', 1.8),
    names: { block: 'mlp', router: 'gate', matrices: MATRICES },
    choiceBias: 'mlp.gate.e_score_correction_bias',
    glm: {
      masked: isPlusPlus && key('use_zce_mask', true),
      groups: key('n_group', 1),
      chosenGroups: key('topk_group', 1),
      shared: key('n_shared_experts', 1) * intermediate,
    },
  }
}

function longcatConfig(json: Json): LatentConfig {
  const key = reader(json)
  const layers = key('num_layers', 28)
  const attention = attentionOf(json, {
    ...{ sizes: [1536, 512, 128, 128], vocab: 131072, hidden: 6144, heads: 64 },
    ...{ maxPositions: 131072, theta: 1e7 },
  })
  const { hidden, scale, queryRank, latentRank } = attention
  return {
    ...attention,
    layers,
    attentions: 2 * layers,
    // A factor of the whole query is one of its scores.
    scale: scale * Math.sqrt(hidden / queryRank!),
    latentScale: Math.sqrt(hidden / latentRank),
    interleaved: true,
    intermediate: key('expert_ffn_hidden_size', 2048),
    denseIntermediate: key('ffn_hidden_size', 12288),
    dense: Array.from({ length: layers }, () => false),
    ffnExperts: key('n_routed_experts', 512),
    zero: Array(key('zero_expert_num', 256)).fill('copy'),
    topK: key('moe_topk', 12),
    renormalised: false,
    routedScale: key('routed_scaling_factor', 6),
    names: { block: 'mlp', router: 'router.classifier', matrices: MATRICES },
    choiceBias: 'mlp.router.e_score_correction_bias',
    ...(json.emb_neighbor_num !== undefined && {
      ngrams: {
        order: Number(json.emb_neighbor_num),
        splits: Number(json.emb_split_num),
        ratio: Number(json.ngram_vocab_size_ratio),
        eos: Number(json.eos_token_id),
      },
    }),
  }
}

/** Of kv_b_proj [heads (N + V), C]: [C, N] of each head, for keys, and [V, C], for values. */
export function headParts(matrix: Matrix, c: LatentConfig): Matrix[] {
  if (!matrix.name.endsWith('.kv_b_proj.weight')) return [matrix]
  const { heads, latentRank: C, plainDim: N, valueDim: V } = c
  const own = matrix.name.slice(0, -'.weight'.length)
  return Array.from({ length: heads }, (_, h) => {
    const rows = matrix.values.subarray(h * (N + V) * C, (h + 1) * (N + V) * C)
    const keys = Float64Array.from(
      { length: C * N },
      (_, i) => rows[(i % N) * C + Math.floor(i / N)]!,
    )
    return [
      { name: `${own}.keys.${h}.weight`, shape: [C, N], values: keys },
      { name: `${own}.values.${h}.weight`, shape: [V, C], values: rows.slice(N * C) },
    ]
  }).flat()
}

function joined(...rows: readonly Row[]): Row {
  const out = new Float64Array(rows.reduce((length, row) => length + row.length, 0))
  let at = 0
  for (const row of rows) {
    out.set(row, at)
    at += row.length
  }
  return out
}

/** One text of such a model. */
export class LatentSequence extends FamilySequence {
  readonly #c: LatentConfig
  readonly #tokens: number[] = []

  constructor(config: LatentConfig, weights: Weights, precision: Precision) {
    super(config, weights, precision)
    this.#c = config
  }

  override forward(tokens: readonly number[]): Position[] {
    this.#tokens.push(...tokens)
    return super.forward(tokens)
  }

  protected override embed(id: number, position: number): Row {
    const own = super.embed(id, position)
    const { ngrams } = this.#c
    if (!ngrams) return own
    const tables = ngrams.splits * (ngrams.order - 1)
    let sum = own
    for (let t = 0; t < tables; t++) {
      const name = (part: string) => `model.ngram_embeddings.${part}.${t}.weight`
      const table = this.weight(name('embedders'))
      const width = own.length / tables
      const row = this.#ngram(position, 2 + Math.floor(t / ngrams.splits), table.length / width)
      const part = table.slice(row * width, (row + 1) * width)
      sum = this.add(sum, this.times(name('post_projs'), part))
    }
    return sum.map(value => this.r(value / (1 + tables)))
  }

  /** The tokens up to a position as digits to the base of the vocabulary, modulo `rows`. */
  #ngram(position: number, order: number, rows: number): number {
    let number = 0n
    let power = 1n
    for (let at = position; at > position - order && at >= 0; at--) {
      const id = this.#tokens[at]!
      // An end belongs to its own text alone.
      if (at < position && id === this.#c.ngrams!.eos) break
      number += BigInt(id) * power
      power *= BigInt(this.#c.vocab)
    }
    return Number(number % BigInt(rows))
  }

  protected override layer(x: Row, layer: number, position: number, previous: Row | undefined) {
    if (this.#c.glm) return super.layer(x, layer, position, previous)
    const own = `model.layers.${layer}`
    const attended = (u: Row, s: number) => {
      const y = this.norm(u, `${own}.input_layernorm.${s}.weight`)
      return this.add(u, this.attention(y, `${own}.self_attn.${s}`, 2 * layer + s, position))
    }
    const normed = (u: Row, s: number) =>
      this.norm(u, `${own}.post_attention_layernorm.${s}.weight`)
    const first = attended(x, 0)
    const y = normed(first, 0)
    const second = this.experts(y, layer)
    const between = attended(this.add(first, this.ffn(`${own}.mlps.0`, y)), 1)
    const last = this.add(between, this.ffn(`${own}.mlps.1`, normed(between, 1)))
    return { x: this.add(last, second.out), second }
  }

  /** With the shared expert's output. */
  protected override experts(y: Row, layer: number): LayerOutput {
    const { out, routed } = super.experts(y, layer)
    if (!routed || !this.#c.glm?.shared) return { out, ...(routed && { routed }) }
    return { out: this.add(out, this.ffn(`model.layers.${layer}.mlp.shared_experts`, y)), routed }
  }

  protected override attention(y: Row, own: string, index: number, position: number): Row {
    const r = this.r
    const { heads, headDim: R, plainDim: N, latentRank: C, scale } = this.#c
    const q = this.#queries(y, own)
    const l = this.project(`${own}.kv_a_proj_with_mqa`, y)
    const normed = this.norm(l.subarray(0, C), `${own}.kv_a_layernorm.weight`, INNER_EPS)
    const latent = normed.map(value => r(value * this.#c.latentScale))
    const cached = this.cached[index]!
    const key = joined(latent, this.#rotated(l.subarray(C), position))
    cached.keys.push(key)
    cached.values.push(key)
    const plain = Array.from({ length: heads }, (_, h) => q.subarray(h * (N + R)).subarray(0, N))
    const rest = Array.from({ length: heads }, (_, h) => q.subarray(h * (N + R) + N).subarray(0, R))
    const rotated = this.#rotated(joined(...rest), position)
    const values = plain.map((part, h) => {
      const absorbed = this.times(`${own}.kv_b_proj.keys.${h}.weight`, part)
      const query = joined(absorbed, rotated.subarray(h * R, (h + 1) * R))
      const mean = new Float64Array(C)
      this.attend(query, cached, 0, scale, mean)
      return this.times(`${own}.kv_b_proj.values.${h}.weight`, mean)
    })
    return this.project(`${own}.o_proj`, joined(...values))
  }

  #queries(y: Row, own: string): Row {
    if (this.#c.queryRank === null) return this.times(`${own}.q_proj.weight`, y)
    const low = this.project(`${own}.q_a_proj`, y)
    const normed = this.norm(low, `${own}.q_a_layernorm.weight`, INNER_EPS)
    return this.times(`${own}.q_b_proj.weight`, normed)
  }

  /** Heads of R elements: pairs of neighbours become halves. */
  #rotated(row: Row, position: number): Row {
    const { headDim: R, interleaved } = this.#c
    const placeOf = (i: number) => (i < R / 2 ? 2 * i : 2 * i + 1 - R)
    const out = row.map((value, i) => (interleaved ? row[i - (i % R) + placeOf(i % R)]! : value))
    this.rotary.rotate(out, position)
    return out
  }

  protected override pick(logits: Row, layer: number): { picks: Picks; margin: number } {
    const { glm, topK, choiceBias, routedScale, renormalised } = this.#c
    const r = this.r
    const scores = glm ? this.#sigmoids(logits, glm.masked) : this.softmax(logits)
    const biased = this.add(scores, this.weight(`model.layers.${layer}.${choiceBias}`))
    const { choice, margin } = this.#bestGroups(biased)
    const order = Array.from(choice.keys()).sort((a, b) => choice[b]! - choice[a]! || a - b)
    const experts = order.slice(0, topK)
    const sum = r(experts.reduce((total, e) => r(total + scores[e]!), 0) + 1e-20)
    const weights = experts.map(e =>
      r((renormalised ? r(scores[e]! / sum) : scores[e]!) * routedScale),
    )
    // An error of a logit changes its score by its slope: s (1 - s) of a softmax and a sigmoid.
    const reach = Math.max(...logits.map(Math.abs)) / 2
    const [last, next] = order.slice(topK - 1, topK + 1) as [number, number | undefined]
    if (next === undefined) return { picks: { experts, weights }, margin }
    const slope = scores[last]! * (1 - scores[last]!) + scores[next]! * (1 - scores[next]!)
    const size = Math.max(slope * reach, Math.abs(choice[last]!) / 16)
    const own = (choice[last]! - choice[next]!) / size
    return { picks: { experts, weights }, margin: Math.min(margin, own) }
  }

  #sigmoids(logits: Row, masked: boolean): Row {
    const r = this.r
    return logits.map((z, e) =>
      masked && e >= this.#c.ffnExperts ? 0 : r(1 / r(1 + r(Math.exp(-z)))),
    )
  }

  /** Scores outside the best groups are 0. */
  #bestGroups(scores: Row): { choice: Row; margin: number } {
    const { groups, chosenGroups } = this.#c.glm ?? { groups: 1, chosenGroups: 1 }
    if (groups === 1) return { choice: scores, margin: Infinity }
    const size = scores.length / groups
    const sums = Float64Array.from({ length: groups }, (_, g) => {
      const [a, b] = scores.slice(g * size, (g + 1) * size).sort((x, y) => y - x)
      return this.r(a! + b!)
    })
    const order = Array.from(sums.keys()).sort((a, b) => sums[b]! - sums[a]! || a - b)
    const best = new Set(order.slice(0, chosenGroups))
    const choice = scores.map((score, e) => (best.has(Math.floor(e / size)) ? score : 0))
    return { choice, margin: marginOf(sums, chosenGroups) }
  }
}
