/** Rotary position embedding in plain TypeScript, with its scalings. */

export interface RopeScaling {
  readonly type: string
  readonly factor: number
  /** Further keys of yarn. */
  readonly [key: string]: unknown
}

export interface RotaryConfig {
  /** Elements of a head that are rotated. */
  readonly headDim: number
  readonly maxPositions: number
  readonly theta: number
  readonly scaling: RopeScaling | null
}

/** The rotation of one text. */
export class Rotary {
  readonly #c: RotaryConfig
  /** Rounds to the precision. */
  readonly #r: (value: number) => number
  #base: number
  #longest: number

  constructor(config: RotaryConfig, round: (value: number) => number) {
    this.#c = config
    this.#r = round
    const { scaling, theta } = config
    this.#base = scaling?.type === 'ntk' ? theta * scaling.factor : theta
    this.#longest = config.maxPositions
  }

  /** `length`: key columns of this call. */
  setLength(length: number): void {
    const { scaling, theta, maxPositions, headDim } = this.#c
    if (scaling?.type !== 'dynamic' || length <= this.#longest) return
    this.#longest = length
    const growth = (scaling.factor * length) / maxPositions - (scaling.factor - 1)
    // At a head dim of 2 the exponent is infinite; the only frequency is base^0 all the same.
    this.#base = headDim === 2 ? theta : theta * growth ** (headDim / (headDim - 2))
  }

  /** The frequencies, and the factor of sine and cosine. */
  #frequencies(): { frequencies: Float64Array; factor: number } {
    const { headDim, theta, scaling, maxPositions } = this.#c
    const half = headDim / 2
    const plain = Float64Array.from({ length: half }, (_, j) => this.#r(this.#base ** (-j / half)))
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
      return this.#r(frequency * (1 - ramp) + (frequency / scaling.factor) * ramp)
    })
    const m = (scale: number) =>
      scaling.factor <= 1 ? 1 : 0.1 * scale * Math.log(scaling.factor) + 1
    const [mscale, all] = [key('mscale'), key('mscale_all_dim')]
    const factor = key('attention_factor') ?? (mscale && all ? m(mscale) / m(all) : m(1))
    return { frequencies, factor }
  }

  /** Rotates every head of a row in place. */
  rotate(row: Float64Array, position: number): void {
    const r = this.#r
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
}
