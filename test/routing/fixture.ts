/** Reports and samples of seeded random choices. */
import { EXPERT_KINDS, type ExpertKind } from '../../lib/program/expert-kinds.js'
import type {
  Cost,
  LayerAgreement,
  LayerRows,
  LayerStatistics,
  MeanInterval,
  Moments,
  RoutingReport,
  Sample,
  Subject,
  TokenRows,
  VocabularyEntry,
  WordPlace,
} from '../../lib/routing/types.js'
import { random } from '../support/random.js'

export interface Shape {
  readonly seed?: number
  readonly model?: string
  readonly file?: string
  readonly tokens: number
  readonly layers: number
  readonly topK: number
  /** Experts of each kind. */
  readonly experts: Readonly<Partial<Record<ExpertKind, number>>>
  readonly windowTokens?: number
  /** Default true. */
  readonly hasResiduals?: boolean
  /** Default true. */
  readonly hasCost?: boolean
  /** The texts of tokens, by their ids. */
  readonly texts?: readonly string[]
}

const WORDS =
  `The| lighthouse| keeper| wait|ed| for| the| ship|,| and| then| went| home|.|\n\n|It| was| 17|42|;` +
  `| a| cold| wind| from| the| north|-|east| un|believ|able|!|\n|“|Who| is| there|?|”| ask|ing| her`
export const TEXTS = [...new Set(WORDS.split('|')), '', '🌊', ' Tür', ' море']

/** A subject and all its tokens. */
export function surveyed(shape: Shape): { subject: Subject; sample: Sample } {
  const { tokens: count, windowTokens = 512, texts = TEXTS } = shape
  const next = random(shape.seed ?? 1)
  const ids = Int32Array.from({ length: count }, () => Math.floor(next() ** 2 * texts.length))
  const kinds = EXPERT_KINDS.flatMap(kind => Array<ExpertKind>(shape.experts[kind] ?? 0).fill(kind))
  const layers = Array.from({ length: shape.layers }, (_, at) =>
    randomLayer(at * 2 + 1, ids, kinds, shape.topK, next),
  )
  const rows: TokenRows[] = []
  for (let first = 0; first < count; first += windowTokens) {
    const end = Math.min(first + windowTokens, count)
    rows.push({
      ...{ first, window: first / windowTokens, position: 0, tokens: ids.slice(first, end) },
      texts: Array.from(ids.subarray(first, end), id => texts[id]!),
      layers: layers.map(layer => rowsOf(layer, first, end)),
    })
  }
  return { subject: subjectOf(shape, ids, layers, next), sample: { rows } }
}

export function reportOf(...subjects: Subject[]): RoutingReport {
  return { version: 1, moepp: '0.1.0', subjects }
}

function randomLayer(
  layer: number,
  ids: Int32Array,
  kinds: readonly ExpertKind[],
  topK: number,
  next: () => number,
): LayerRows {
  const n = ids.length * topK
  const made = {
    ...{ layer, topK, kinds, experts: new Int32Array(n), weights: new Float32Array(n) },
    ...{ logits: new Float32Array(n), replaced: new Float32Array(n) },
    ffnExperts: new Uint8Array(ids.length),
  }
  const biases = kinds.map(() => next())
  ids.forEach((id, i) => {
    // The same token likes the same experts.
    const scores = kinds.map((_, e) => 2 * biases[e]! + Math.sin(id * 7 + e * 3 + layer) + next())
    const chosen = kinds
      .map((_, expert) => expert)
      .sort((a, b) => scores[b]! - scores[a]!)
      .slice(0, topK)
    const all = chosen.reduce((sum, expert) => sum + Math.exp(scores[expert]!), 0)
    chosen.forEach((expert, k) => {
      const at = i * topK + k
      made.experts[at] = expert
      made.logits[at] = scores[expert]!
      made.weights[at] = Math.exp(scores[expert]!) / all
      made.replaced[at] = kinds[expert] === 'constant' ? next() : 0
    })
    made.ffnExperts[i] = ffnExpertsOf(made, i)
  })
  return made
}

function rowsOf(layer: LayerRows, first: number, end: number): LayerRows {
  const { topK } = layer
  const cut = <A extends Int32Array | Float32Array>(values: A) =>
    values.slice(first * topK, end * topK) as A
  return {
    ...layer,
    ffnExperts: layer.ffnExperts.slice(first, end),
    ...{ experts: cut(layer.experts), weights: cut(layer.weights) },
    ...{ logits: cut(layer.logits), replaced: cut(layer.replaced) },
  }
}

/** FFN experts of token `i`. */
export function ffnExpertsOf(
  { topK, kinds, experts, weights }: Omit<LayerRows, 'ffnExperts'>,
  i: number,
): number {
  let number = 0
  for (let at = i * topK; at < (i + 1) * topK; at++)
    if (kinds[experts[at]!] === 'ffn' && weights[at]! > 0) number++
  return number
}

function intervalOf(values: readonly number[]): MeanInterval {
  const mean = values.reduce((sum, value) => sum + value, 0) / Math.max(values.length, 1)
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0)
  const deviation = Math.sqrt(squares / Math.max(values.length - 1, 1))
  return {
    ...{ count: values.length, mean },
    halfWidth: (1.96 * deviation) / Math.sqrt(Math.max(values.length, 1)),
  }
}

function subjectOf(
  shape: Shape,
  ids: Int32Array,
  layers: readonly LayerRows[],
  next: () => number,
): Subject {
  const { texts = TEXTS, windowTokens = 512, hasResiduals = true, hasCost = true } = shape
  const means = Array.from(
    ids,
    (_, i) => layers.reduce((sum, layer) => sum + ffnExpertsOf(layer, i), 0) / layers.length,
  )
  const ffnExperts = intervalOf(means)
  return {
    ...{ model: shape.model ?? 'models/books-7m', file: shape.file ?? 'texts/moby.txt' },
    ...{ device: 'cpu (AVX-512)', dtype: 'bf16', tokens: ids.length, windowTokens, ffnExperts },
    layers: layers.map((layer, at) =>
      statisticsOf(layer, ids.length, hasResiduals && at > 0, next),
    ),
    agreement: layers.slice(1).map((layer, at) => agreementOf(layers[at]!, layer, next)),
    vocabulary: vocabularyOf(ids, texts, means),
    places: (['whole', 'first', 'middle', 'last', 'number', 'punctuation'] as WordPlace[]).map(
      (place, at) => ({
        place,
        ffnExperts: intervalOf(means.filter((_, i) => ids[i]! % 6 === at)),
      }),
    ),
    findings: [
      { kind: 'dead-expert', layer: 3, expert: 2, text: 'Layer 3: no token picks FFN expert 2.' },
      { kind: 'only-ffn', layer: 5, text: 'Layer 5: each token has its FFN experts alone.' },
    ],
    cost: hasCost ? costOf(ffnExperts.mean, shape) : null,
  }
}

function statisticsOf(
  rows: LayerRows,
  tokens: number,
  hasOwn: boolean,
  next: () => number,
): LayerStatistics {
  const { layer, topK, kinds, experts, weights } = rows
  const picks = kinds.map(() => 0)
  const sums = kinds.map(() => 0)
  experts.forEach((expert, at) => {
    picks[expert]!++
    sums[expert]! += weights[at]!
  })
  const ffnExperts = Array<number>(topK + 1).fill(0)
  for (let i = 0; i < tokens; i++) ffnExperts[ffnExpertsOf(rows, i)]!++
  const scores = momentsOf(next, 1 + 0.2 * next(), tokens * kinds.length)
  return {
    ...{ layer, tokens, topK, kinds, picks, weights: sums, ffnExperts },
    router: {
      probabilities: sums.map(sum => sum / topK),
      entropy: tokens * Math.log2(kinds.length) * (0.6 + 0.2 * next()),
      scores,
      ...(hasOwn && { ownScores: momentsOf(next, 1.4 + 0.4 * next(), scores.count) }),
    },
  }
}

const momentsOf = (next: () => number, variance: number, count: number): Moments => ({
  ...{ count, mean: next() - 0.5, variance, least: -3 - next(), most: 3 + next() },
})

function agreementOf(one: LayerRows, other: LayerRows, next: () => number): LayerAgreement {
  return {
    ...{ layer: one.layer, nextLayer: other.layer, same: 0.2 + 0.2 * next() },
    ...{ expected: 0.2 + 0.02 * next(), information: 0.3 * next() },
    ffnCorrelation: one.layer === 3 ? null : next() - 0.3,
  }
}

function vocabularyOf(ids: Int32Array, texts: readonly string[], means: readonly number[]) {
  const values = new Map<number, number[]>()
  ids.forEach((id, i) => {
    const of = values.get(id) ?? []
    of.push(means[i]!)
    values.set(id, of)
  })
  return [...values]
    .map(([token, of]): VocabularyEntry => {
      return { token, text: texts[token]!, ffnExperts: intervalOf(of) }
    })
    .sort((a, b) => b.ffnExperts.mean - a.ffnExperts.mean)
}

function costOf(ffnExperts: number, { topK }: Shape): Cost {
  const of = (ffnExperts: number) => ({
    ffnExperts,
    operations: 2e6 + 5e6 * ffnExperts,
    bytes: 3e6 + 4e6 * ffnExperts,
    predicted: { prefill: 1e-5 * (1 + ffnExperts), decode: 1e-4 * (1 + ffnExperts) },
    measured: { prefill: 1.3e-5 * (1 + ffnExperts), decode: 1.2e-4 * (1.1 + ffnExperts) },
  })
  const ceilings = { bytesPerSecond: 4e10, operationsPerSecond: 1e12 }
  return { model: of(ffnExperts), twin: of(topK), ceilings }
}
