/**
 * A checkpoint's weights as int8 or int4 hold them, plainly: each value is the integer times its
 * scale. The formulas are those of native/weights/quantise.h; the code is not.
 */
import type { Row, Weights } from './decoder-f64.js'
import type { RandomCheckpoint } from './random-checkpoint.js'

export type QuantisedType = 'int8' | 'int4' | 'int4-all'

const EMBEDDING = 'model.embed_tokens.weight'
const FFN = /\.(gate_proj|up_proj|down_proj|w[123])\.weight$/
const PROJECTION = '[qkvo]_proj|q_[ab]_proj|kv_a_proj_with_mqa|kv_b_proj\\.(keys|values)\\.\\d+'
const ATTENTION = new RegExp(`\\.self_attn\\.([01]\\.)?(${PROJECTION})\\.weight$`)

export function quantisedWeights(
  { tensors, config }: RandomCheckpoint,
  dtype: QuantisedType,
): Weights {
  const head = config.tie_word_embeddings ? EMBEDDING : 'lm_head.weight'
  const isQuantised = (name: string) => FFN.test(name) || ATTENTION.test(name) || name === head
  const all = new Map<string, Row>()
  for (const { name, shape, values } of tensors) {
    const isInt4 = dtype === 'int4-all' || (dtype === 'int4' && FFN.test(name))
    all.set(name, isQuantised(name) ? quantisedRows(values, shape[1]!, isInt4) : values)
  }
  return { tensors: all, quantised: new Set([...all.keys()].filter(isQuantised)) }
}

/** Rows of `width` values, each in blocks of 128. */
function quantisedRows(values: Row, width: number, isInt4: boolean): Row {
  const out = values.slice()
  for (let row = 0; row < out.length; row += width) {
    for (let first = row; first < row + width; first += 128) {
      const block = out.subarray(first, Math.min(first + 128, row + width))
      if (largest(block) < 2 ** -100) block.fill(0)
      else block.set(isInt4 ? int4(block) : int8(block))
    }
  }
  return out
}

const largest = (values: Row) => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0)

/** The values in multiples of `scale` from `low` to `high`; native divides in f32. */
function inUnits(values: Row, scale: number, low: number, high: number): Row {
  const inverse = Math.fround(1 / scale)
  const rounded = new Float64Array(values.length)
  for (let i = 0; i < values.length; i++) {
    const unit = toEven(Math.fround(values[i]! * inverse), 1)
    rounded[i] = Math.min(Math.max(unit, low), high) * scale
  }
  return rounded
}

/** The nearest multiple of `step`, ties to even. */
function toEven(value: number, step: number): number {
  const units = value / step
  const floor = Math.floor(units)
  const up = units - floor > 0.5 || (units - floor === 0.5 && floor % 2 !== 0)
  return (floor + (up ? 1 : 0)) * step
}

/** The distance of neighbours with so many significant bits. */
const spacing = (value: number, bits: number) => 2 ** (Math.floor(Math.log2(value)) - bits + 1)

function int8(block: Row): Row {
  const scale = Math.fround(largest(block) / 127)
  return inUnits(block, toEven(scale, spacing(scale, 8)), -127, 127)
}

/**
 * The scale is the least at which multipliers up to 15 suffice, or the next smaller one. A group's
 * largest value is 7.3 units of it then. The least error decides, in f32 as native adds it up.
 */
function int4(block: Row): Row {
  const groups = Array.from({ length: Math.ceil(block.length / 32) }, (_, j) =>
    block.subarray(32 * j, 32 * (j + 1)),
  )
  const least = Math.fround(Math.fround(largest(block) / Math.fround(7.3)) / 15)
  const step = spacing(least, 4)
  const wide = Math.ceil(least / step) * step
  const narrow = wide - spacing(wide * (1 - 2 ** -10), 4)
  const [first, second] = [wide, narrow].map(scale =>
    groups.map(group => {
      const signed = signOf(group) * scale
      return bestOf(multipliers(group, scale).map(m => int4Group(group, m * signed)))
    }),
  ) as [Candidate[], Candidate[]]
  const total = (candidates: Candidate[]) =>
    candidates.reduce((sum, { error }) => Math.fround(sum + error), 0)
  const chosen = total(second) < total(first) ? second : first
  return Float64Array.from(chosen.flatMap(({ values }) => [...values]))
}

interface Candidate {
  readonly values: Row
  /** Squared. */
  readonly error: number
}

/** The first of those with the least error. */
function bestOf(candidates: readonly Candidate[]): Candidate {
  return candidates.reduce((best, next) => (next.error < best.error ? next : best))
}

/** Five from the one that reaches the group's largest value down. */
function multipliers(group: Row, scale: number): number[] {
  const widest = Math.fround(Math.fround(largest(group) / Math.fround(7.3)) / scale)
  const high = Math.min(15, Math.floor(widest) + 1)
  return [0, 1, 2, 3, 4].map(i => Math.max(1, high - i))
}

/** A group whose largest value is positive has a negative scale: integers go from -8 to 7. */
function signOf(group: Row): number {
  const most = group.reduce((a, b) => Math.max(a, b))
  const least = group.reduce((a, b) => Math.min(a, b))
  return most > -least ? -1 : 1
}

function int4Group(group: Row, scale: number): Candidate {
  const values = inUnits(group, scale, -8, 7)
  return { values, error: squaredError(group, values) }
}

/** In eight sums, which are added in pairs: two candidates may differ by the last bit alone. */
function squaredError(group: Row, values: Row): number {
  const sums = new Float32Array(8)
  for (let i = 0; i < group.length; i++) {
    const error = Math.fround(group[i]! - values[i]!)
    sums[i % 8]! += Math.fround(error * error)
  }
  const [a, b, c, d] = sums.subarray(0, 4).map((sum, i) => sum + sums[4 + i]!)
  return Math.fround(Math.fround(a! + c!) + Math.fround(b! + d!))
}
