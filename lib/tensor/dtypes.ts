/** The words for types: those of users and of config.json, and those of tensors. */
import type { DType, WeightDType } from './tensor-ref.js'

/** Types of stored tensors, by their words. */
export const STORED_DTYPES = {
  float32: 'f32',
  float16: 'f16',
  bfloat16: 'bf16',
} as const satisfies Record<string, DType>

/** All types, by their words. */
export const DTYPES = {
  ...STORED_DTYPES,
  int8: 'int8',
  int4: 'int4',
} as const satisfies Record<string, WeightDType>

type Dtypes = typeof DTYPES
type WordOf<D extends WeightDType> = {
  [Word in keyof Dtypes]: Dtypes[Word] extends D ? Word : never
}[keyof Dtypes]

const WORDS: ReadonlyMap<string, string> = new Map(
  Object.entries(DTYPES).map(([word, dtype]) => [dtype, word]),
)

export function wordOf<D extends WeightDType>(dtype: D): WordOf<D> {
  return WORDS.get(dtype) as WordOf<D>
}
