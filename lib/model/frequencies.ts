/** Rotary frequencies, all scalings. MODEL.md, "RoPE". */
import type { ModelConfig } from '../config.js'

/** The base of a forward call over `length` key columns. */
function ropeBase(c: ModelConfig, length: number): number {
  const scaling = c.ropeScaling
  if (scaling?.type === 'ntk') return c.ropeTheta * scaling.factor
  if (scaling?.type !== 'dynamic' || length <= c.maxPositionEmbeddings) return c.ropeTheta
  const stretch = (scaling.factor * length) / c.maxPositionEmbeddings - (scaling.factor - 1)
  return c.ropeTheta * stretch ** (c.headDim / (c.headDim - 2))
}

/** base^(-2j/D), j = 0 .. D/2-1, each step rounded to f32 as upstream's tensors round it. */
function frequenciesOf(base: number, headDim: number): Float32Array {
  return Float32Array.from({ length: headDim / 2 }, (_, j) => {
    const exponent = Math.fround((2 * j) / headDim)
    return 1 / Math.fround(base ** exponent)
  })
}

/** Frequencies by sequence length; lengths with the same base share one object. */
export class RopeFrequencies {
  readonly #config: ModelConfig
  readonly #byBase = new Map<number, Float32Array>()

  constructor(config: ModelConfig) {
    this.#config = config
  }

  /** [D/2] for a sequence of `length` tokens. */
  of(length: number): Float32Array {
    const base = ropeBase(this.#config, length)
    let frequencies = this.#byBase.get(base)
    if (!frequencies) {
      frequencies = frequenciesOf(base, this.#config.headDim)
      this.#byBase.set(base, frequencies)
    }
    return frequencies
  }
}
