/** Rotary frequencies, all scalings. docs/models/README.md, "RoPE". */

/**
 * Scaling of positions beyond the trained length (docs/models/README.md, "RoPE").
 *
 * @example
 * ```ts
 * import { loadModel, type RopeScaling } from 'moepp'
 *
 * const model = await loadModel('npm:moepp-books-7m')
 * const scaling: RopeScaling | null = model.config.ropeScaling
 * console.log(scaling ? `${scaling.type}, factor ${scaling.factor}` : 'positions are not scaled')
 * ```
 */
export interface RopeScaling {
  /** The formula of the scaling. */
  readonly type: 'linear' | 'dynamic' | 'ntk' | 'yarn'
  /** Above 0; MoE++'s above 1. */
  readonly factor: number
  /** Of yarn alone. */
  readonly yarn?: YarnScaling
}

/**
 * The parameters of yarn, with its defaults filled in.
 *
 * @example
 * ```ts
 * import { loadModel, type YarnScaling } from 'moepp'
 *
 * const model = await loadModel('npm:moepp-books-7m')
 * const yarn: YarnScaling | undefined = model.config.ropeScaling?.yarn
 * console.log(yarn?.originalMaxPositions)
 * ```
 */
export interface YarnScaling {
  /** Positions that the model was trained with before it was extended. */
  readonly originalMaxPositions: number
  /** Rotations over these positions above which a frequency stays as it is. */
  readonly betaFast: number
  /** Rotations below which a frequency is divided by the factor. */
  readonly betaSlow: number
  /** The ramp's ends are rounded to whole dimensions. */
  readonly truncate: boolean
  /** Factor of cosine and sine. */
  readonly attentionFactor: number
  /** Latent attention's scores grow with it. Default 0: they do not. */
  readonly mscaleAllDim?: number
}

/** Of a model's configuration. */
export interface RopeShape {
  readonly ropeTheta: number
  /** D: dimensions of a head that are rotated; even. */
  readonly headDim: number
  readonly maxPositionEmbeddings: number
  readonly ropeScaling: RopeScaling | null
}

/**
 * The rotation of one model. Keys of a text may be rotated in several ways. A variant is a number
 * for one of them, equal where the rotations are.
 */
export class Rope {
  readonly #shape: RopeShape
  /** The row of variant 0. Those of others are not kept: there is one for each length. */
  readonly #plain: Float32Array
  /** Positions are divided by it. */
  readonly positionDivisor: number
  /** Factor of cosine and sine. */
  readonly magnitude: number

  /**
   * @param dividesPositions linear scaling divides positions, as MoE++'s code does; else
   *   frequencies. The bits differ.
   */
  constructor(shape: RopeShape, dividesPositions = false) {
    this.#shape = shape
    const { ropeScaling: scaling } = shape
    this.positionDivisor = scaling?.type === 'linear' && dividesPositions ? scaling.factor : 1
    this.magnitude = scaling?.yarn?.attentionFactor ?? 1
    this.#plain = this.#compute(0)
  }

  /** J = D/2: frequencies of a rotation. */
  get pairs(): number {
    return this.#shape.headDim / 2
  }

  /** The variant of a forward call over `length` key columns. 0 but for dynamic scaling. */
  keyVariant(length: number): number {
    const { ropeScaling, maxPositionEmbeddings } = this.#shape
    return ropeScaling?.type === 'dynamic' && length > maxPositionEmbeddings ? length : 0
  }

  /** [B, J] frequencies of sequences of these variants. */
  rows(variants: Int32Array): Float32Array {
    const rows = new Float32Array(variants.length * this.pairs)
    for (const [b, variant] of variants.entries())
      rows.set(variant === 0 ? this.#plain : this.#compute(variant), b * this.pairs)
    return rows
  }

  #compute(variant: number): Float32Array {
    const { headDim: dims, ropeScaling: scaling, ropeTheta: theta } = this.#shape
    const plain = frequenciesOf(this.#base(variant), dims)
    if (scaling?.type === 'linear' && this.positionDivisor === 1)
      return plain.map(f => f / scaling.factor)
    if (scaling?.yarn) return yarnFrequencies(plain, theta, scaling.factor, scaling.yarn)
    return plain
  }

  #base(length: number): number {
    const { maxPositionEmbeddings, ropeScaling: scaling } = this.#shape
    const { ropeTheta: theta, headDim: dims } = this.#shape
    if (scaling?.type === 'ntk') return theta * scaling.factor
    if (scaling?.type !== 'dynamic' || length === 0) return theta
    const stretch = (scaling.factor * length) / maxPositionEmbeddings - (scaling.factor - 1)
    return theta * stretch ** (dims / (dims - 2))
  }
}

/** base^(-2j/D), j = 0 .. D/2-1, each step rounded to f32 as upstream's tensors round it. */
function frequenciesOf(base: number, dims: number): Float32Array {
  return Float32Array.from({ length: dims / 2 }, (_, j) => {
    const exponent = Math.fround((2 * j) / dims)
    return 1 / Math.fround(base ** exponent)
  })
}

/**
 * High frequencies stay, low ones are divided by the factor, those between are mixed. Source: YaRN,
 * arXiv 2309.00071, and transformers' `_compute_yarn_parameters`.
 */
function yarnFrequencies(
  plain: Float32Array,
  theta: number,
  factor: number,
  yarn: YarnScaling,
): Float32Array {
  const dims = 2 * plain.length
  // The dimension whose frequency turns so many times within the trained positions.
  const dimensionOf = (turns: number) =>
    (dims * Math.log(yarn.originalMaxPositions / (2 * Math.PI * turns))) / (2 * Math.log(theta))
  const [fast, slow] = [dimensionOf(yarn.betaFast), dimensionOf(yarn.betaSlow)]
  const low = Math.max(yarn.truncate ? Math.floor(fast) : fast, 0)
  const end = Math.min(yarn.truncate ? Math.ceil(slow) : slow, dims - 1)
  const high = end === low ? end + 0.001 : end
  return plain.map((f, j) => {
    const ramp = Math.min(1, Math.max(0, (j - low) / (high - low)))
    return f * (1 - ramp) + (f / factor) * ramp
  })
}

/** The attention factor of yarn where the configuration does not give it. */
export function yarnAttentionFactor(factor: number, mscale = 0, mscaleAllDim = 0): number {
  const m = (scale: number) => (factor <= 1 ? 1 : 0.1 * scale * Math.log(factor) + 1)
  return mscale !== 0 && mscaleAllDim !== 0 ? m(mscale) / m(mscaleAllDim) : m(1)
}
