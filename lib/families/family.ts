/** A model family: the configurations that it answers to, and the recording of its model. */
import type { Fields } from '../base/fields.js'
import type { Ngrams } from '../layers/ngrams.js'
import type { Rope, RopeScaling } from '../layers/rope.js'
import type { ModelBuilder } from '../program/model-builder.js'
import type { DType } from '../tensor/tensor-ref.js'

/**
 * The checked config.json of a checkpoint: the values that all families have. An object at run time
 * may hold those of its family, too. `docs/models/` says what each does.
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
  /** The family's name: `moepp`. */
  readonly family: string
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
  /** Elements of a head; even. */
  readonly headDim: number
  /** Positions that the model was made for. Dynamic RoPE changes its base there. Not a limit. */
  readonly maxPositionEmbeddings: number
  /** Added to the mean square in each RMSNorm. */
  readonly rmsNormEps: number
  /** Base of the rotary frequencies. */
  readonly ropeTheta: number
  /** null: positions are not scaled. */
  readonly ropeScaling: RopeScaling | null
  /** True if the output head is the embedding. */
  readonly tieWordEmbeddings: boolean
  /** E: experts of a layer, all kinds. Those with a feed-forward network come first. */
  readonly experts: number
  /** N: experts with a feed-forward network. */
  readonly ffnExperts: number
  /** K: experts that each token chooses. */
  readonly topK: number
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

/** A configuration, read and checked, and the model that it describes. */
export interface ModelDescription {
  readonly config: ModelConfig
  /** Words on the router, for people. */
  readonly routerNotes: readonly string[]
  readonly rope: Rope
  /** Of a model that looks up n-grams. */
  readonly ngrams?: Ngrams
  /** Matrices are stored as float8, in blocks of 128 x 128 (float8.ts). Default false. */
  readonly isFloat8?: boolean
  /**
   * The layer for multi-token prediction that a stored tensor is of. Loading skips such tensors.
   * Default: there are none.
   */
  readonly predictionLayer?: (name: string) => number | undefined
  /** Records the model: its weights, its ops, its KV cache, and what can be captured. */
  record(m: ModelBuilder): void
}

export interface Family {
  readonly name: string
  /** `architectures` of the config.json files that it answers to. They go before `model_type`. */
  readonly architectures: readonly string[]
  /** `model_type` of those. */
  readonly modelTypes: readonly string[]
  /** Reads the fields. It asks for each, or refuses it. */
  describe(fields: Fields): ModelDescription
}
