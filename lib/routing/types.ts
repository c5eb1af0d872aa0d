/** Numbers of a model's routing. All but rows of tokens can be written as JSON. */
import type { ExpertKind } from '../program/expert-kinds.js'

/**
 * Counts of one layer's routing over T tokens, E experts and K picks a token.
 *
 * @example
 * ```ts
 * import { loadModel, routing } from 'moepp'
 *
 * const mean = ({ ffnExperts, tokens }: routing.LayerStatistics) =>
 *   ffnExperts.reduce((sum, count, k) => sum + count * k, 0) / tokens
 * const model = await loadModel('npm:moepp-books-7m')
 * const result = await model.generate('The old man', { routing: true })
 * console.log(result.routing?.layers.map(layer => mean(routing.statistics(layer))))
 * ```
 */
export interface LayerStatistics {
  /** Number of the layer: a model may have layers without experts. */
  readonly layer: number
  /** T */
  readonly tokens: number
  /** K: experts that each token picks. */
  readonly topK: number
  /** [E] the kind of each expert. */
  readonly kinds: readonly ExpertKind[]
  /** [E] tokens that picked the expert, whatever its weight. */
  readonly picks: readonly number[]
  /** [E] sum of its weights above 0, before zero-computation experts are taken out. */
  readonly weights: readonly number[]
  /** [K+1] tokens by the number of their FFN experts with a weight above 0. */
  readonly ffnExperts: readonly number[]
  /** Of the router's logits; absent where they were not recorded. */
  readonly router?: RouterStatistics
}

/**
 * The router's logits of T tokens and E experts.
 *
 * @example
 * ```ts
 * import { loadModel, routing } from 'moepp'
 *
 * const model = await loadModel('npm:moepp-books-7m')
 * const tokens = model.tokenizer.encode('The old man')
 * const capture = ['layers.0.router_logits']
 * const result = await model.forward(tokens, { routing: true, capture })
 * const logits = result.captured['layers.0.router_logits']
 * const [layer] = result.routing?.layers ?? []
 * if (layer && logits instanceof Float32Array) {
 *   // config.json of this model: moe_use_logits_norm, moe_gate_norm_std 1.
 *   const scores: routing.RouterScores = { logits, normStd: 1 }
 *   console.log(routing.balance(routing.statistics(layer, scores)).loss)
 * }
 * ```
 */
export interface RouterScores {
  /** [T, E] as `layers.N.router_logits` has them. */
  readonly logits: Float32Array
  /** [T, E] the same without the part of the layer before. */
  readonly ownLogits?: Float32Array | Float64Array
  /**
   * The router's softmax scales each token's logits to this standard deviation (MoE++'s
   * `moe_gate_norm_std`). Default 0: it does not.
   */
  readonly normStd?: number
  /** True: the router's softmax leaves zero-computation experts out. Default false. */
  readonly masked?: boolean
}

/**
 * Sums over the router's logits. Tokens whose logits are not all finite are left out: scores.count
 * / E are counted.
 *
 * @example
 * ```ts
 * import type { routing } from 'moepp'
 *
 * const meanBits = (router: routing.RouterStatistics, tokens: number) => router.entropy / tokens
 * console.log(meanBits.length)
 * ```
 */
export interface RouterStatistics {
  /** [E] sum over tokens of softmax(logits), the P of the load-balancing loss before its mean. */
  readonly probabilities: readonly number[]
  /** Sum over tokens of the entropy of softmax(logits), in bits. */
  readonly entropy: number
  /** Of all T E logits: what routes. */
  readonly scores: Moments
  /** Of the logits without the part of the layer before; absent without a residual map. */
  readonly ownScores?: Moments
}

/**
 * Of a set of numbers; all are 0 if it is empty.
 *
 * @example
 * ```ts
 * import type { routing } from 'moepp'
 *
 * const deviation = ({ variance }: routing.Moments) => Math.sqrt(variance)
 * console.log(deviation({ count: 2, mean: 0, variance: 4, least: -2, most: 2 })) // 2
 * ```
 */
export interface Moments {
  /** Numbers of the set. */
  readonly count: number
  /** Arithmetic mean. */
  readonly mean: number
  /** Of the whole set: divided by the count. */
  readonly variance: number
  /** The smallest. */
  readonly least: number
  /** The largest. */
  readonly most: number
}

/**
 * Choices of one layer beside those of the next layer with experts.
 *
 * @example
 * ```ts
 * import type { routing } from 'moepp'
 *
 * const isHabit = ({ same, expected }: routing.LayerAgreement) => same > 2 * expected
 * console.log(isHabit.length)
 * ```
 */
export interface LayerAgreement {
  /** Number of the layer. */
  readonly layer: number
  /** Number of the next one. */
  readonly nextLayer: number
  /** Mean share of a token's K picks whose experts have the same number in both layers. */
  readonly same: number
  /** The share that independent choices with these loads would have. */
  readonly expected: number
  /** Mutual information of both first choices, in bits; how experts are numbered plays no part. */
  readonly information: number
  /** Correlation of the numbers of FFN experts; null where one of them never varies. */
  readonly ffnCorrelation: number | null
}

/**
 * A mean over n numbers, with the half width of its 95 % interval.
 *
 * @example
 * ```ts
 * import { routing } from 'moepp'
 *
 * const show = ({ mean, halfWidth }: routing.MeanInterval) => `${mean} +- ${halfWidth ?? "?"}`
 * console.log(show(routing.interval([1, 2, 2])))
 * ```
 */
export interface MeanInterval {
  /** n */
  readonly count: number
  /** 0 without numbers. */
  readonly mean: number
  /** null for fewer than two numbers: they say nothing of the spread. */
  readonly halfWidth: number | null
}

/**
 * The spread of a layer's picks. A figure is null where it is not defined.
 *
 * @example
 * ```ts
 * import type { routing } from 'moepp'
 *
 * const isEven = ({ violation }: routing.LayerBalance) => violation !== null && violation < 0.5
 * console.log(isEven.length)
 * ```
 */
export interface LayerBalance {
  /** The heterogeneous load-balancing loss; null without finite logits. */
  readonly loss: number | null
  /** Of the FFN experts' loads: standard deviation by mean. Null if none was picked. */
  readonly variation: number | null
  /** Of the FFN experts' loads: the largest by the mean, less 1. Null if none was picked. */
  readonly violation: number | null
  /** Of all experts' shares of the picks, by its maximum. Null for one expert, or no pick. */
  readonly entropy: number | null
}

/** A token of the vocabulary: FFN experts per layer, over its places in the text. */
export interface VocabularyEntry {
  readonly token: number
  readonly text: string
  readonly ffnExperts: MeanInterval
}

/** The place of a token in its word. */
export type WordPlace = 'whole' | 'first' | 'middle' | 'last' | 'number' | 'punctuation' | 'other'

/**
 * Something that a developer should look at.
 *
 * @example
 * ```ts
 * import type { routing } from 'moepp'
 *
 * const isDead = ({ kind }: routing.Finding) => kind === 'dead-expert'
 * console.log(isDead({ kind: 'no-ffn', layer: 3, text: 'Layer 3: ...' })) // false
 * ```
 */
export interface Finding {
  /** The rule: `findings` has them. */
  readonly kind: 'dead-expert' | 'collapsed-layer' | 'no-ffn' | 'only-ffn' | 'broken-router'
  /** Number of the layer. */
  readonly layer: number
  /** The expert, where it is about one. */
  readonly expert?: number
  /** A sentence. */
  readonly text: string
}

/** Of a machine, for one device and type. */
export interface CostCeilings {
  readonly bytesPerSecond: number
  readonly operationsPerSecond: number
}

/** Means per token of the text, for the model and for its vanilla twin. */
export interface Cost {
  /** The twin: the same model where each of the K picks is an FFN expert. */
  readonly model: TokenCost
  readonly twin: TokenCost
  /** Ceilings of this machine at the time, null where unknown. */
  readonly ceilings: CostCeilings | null
}

export interface TokenCost {
  readonly ffnExperts: number
  /** Of the matrix products of a prefill; a multiply-add counts as two. */
  readonly operations: number
  /** That a decode step of one sequence must read. */
  readonly bytes: number
  /** Seconds a token that the ceilings allow; null without ceilings. */
  readonly predicted: Seconds | null
  /** Measured seconds a token on this machine; null where it was not asked for. */
  readonly measured: Seconds | null
}

export interface Seconds {
  readonly prefill: number
  readonly decode: number
}

/** Seconds a token of a model and of its vanilla twin, measured in turns. */
export interface MeasuredCost {
  readonly model: Seconds
  readonly twin: Seconds
  /** Measured before and after; null on a device without known ceilings. */
  readonly ceilings: CostCeilings | null
}

/** One text as one model routes it. */
export interface Subject {
  /** As they were given. */
  readonly model: string
  readonly file: string
  readonly device: string
  readonly dtype: string
  readonly tokens: number
  /** Tokens of a window, its begin token included: each is computed as a text of its own. */
  readonly windowTokens: number
  /** Mean FFN experts per token and layer. */
  readonly ffnExperts: MeanInterval
  readonly layers: readonly LayerStatistics[]
  readonly agreement: readonly LayerAgreement[]
  /** By falling cost. */
  readonly vocabulary: readonly VocabularyEntry[]
  readonly places: readonly { readonly place: WordPlace; readonly ffnExperts: MeanInterval }[]
  readonly findings: readonly Finding[]
  readonly cost: Cost | null
}

/** The numbers of a report: one subject for each model and file. */
export interface RoutingReport {
  /** Of this format. */
  readonly version: 1
  readonly moepp: string
  readonly subjects: readonly Subject[]
}

/** The routing of consecutive tokens: L layers with experts, K picks. */
export interface TokenRows {
  /** Number of the first one in its file. */
  readonly first: number
  /**
   * Number of the window, and the place of the first token in it. A window's begin token has place
   * 0 and no row: it is no token of the text.
   */
  readonly window: number
  readonly position: number
  /** [n] */
  readonly tokens: Int32Array
  /** [n] the characters that each token completes: '' for a part of one. */
  readonly texts: readonly string[]
  /** [L] */
  readonly layers: readonly LayerRows[]
}

export interface LayerRows {
  readonly layer: number
  readonly topK: number
  /** [E] */
  readonly kinds: readonly ExpertKind[]
  /** [n] FFN experts with a weight above 0. */
  readonly ffnExperts: Uint8Array
  /** [n, K] as the router chose them. */
  readonly experts: Int32Array
  /** [n, K] */
  readonly weights: Float32Array
  /** [n, K] the router's logits of the chosen. */
  readonly logits: Float32Array
  /** [n, K] the share of its input that a constant expert replaces; 0 for the others. */
  readonly replaced: Float32Array
}

/**
 * The beginning of a subject's text, token by token, for the page. Rows behind the first ones may
 * have no picks: their arrays of [n, K] are empty.
 */
export interface Sample {
  readonly rows: readonly TokenRows[]
}
