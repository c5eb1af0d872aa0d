/** Rotary frequencies, all scalings. MODEL.md, "RoPE". */
import type { ModelConfig } from '../config.js'

/** The base of keys of `variant`. */
function ropeBase(c: ModelConfig, variant: number): number {
  const scaling = c.ropeScaling
  if (scaling?.type === 'ntk') return c.ropeTheta * scaling.factor
  if (scaling?.type !== 'dynamic' || variant === 0) return c.ropeTheta
  const stretch = (scaling.factor * variant) / c.maxPositionEmbeddings - (scaling.factor - 1)
  return c.ropeTheta * stretch ** (c.headDim / (c.headDim - 2))
}

/** base^(-2j/D), j = 0 .. D/2-1, each step rounded to f32 as upstream's tensors round it. */
function frequenciesOf(base: number, headDim: number): Float32Array {
  return Float32Array.from({ length: headDim / 2 }, (_, j) => {
    const exponent = Math.fround((2 * j) / headDim)
    return 1 / Math.fround(base ** exponent)
  })
}

/**
 * Frequencies by the variant of keys (engine/runner.ts). With dynamic scaling, keys of a forward
 * call over more columns than maxPositionEmbeddings have a base of their own: their variant is that
 * length. All others are plain: variant 0.
 */
export class RopeFrequencies {
  readonly #config: ModelConfig
  readonly #byVariant = new Map<number, Float32Array>()

  constructor(config: ModelConfig) {
    this.#config = config
  }

  /** Of a forward call over `length` key columns. */
  variant(length: number): number {
    const { ropeScaling, maxPositionEmbeddings } = this.#config
    return ropeScaling?.type === 'dynamic' && length > maxPositionEmbeddings ? length : 0
  }

  /** [B, D/2] for sequences of these variants. */
  rows(variants: Int32Array): Float32Array {
    const half = this.#config.headDim / 2
    const rows = new Float32Array(variants.length * half)
    for (const [b, variant] of variants.entries()) rows.set(this.#of(variant), b * half)
    return rows
  }

  #of(variant: number): Float32Array {
    let frequencies = this.#byVariant.get(variant)
    if (!frequencies) {
      frequencies = frequenciesOf(ropeBase(this.#config, variant), this.#config.headDim)
      this.#byVariant.set(variant, frequencies)
    }
    return frequencies
  }
}
