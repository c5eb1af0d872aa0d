/** Tables that a program looks rows up in. */
import type { WeightSpec } from './binding.js'

/**
 * Rows of a table that stays in the checkpoint's files, read before each step: `LookupSpec` of
 * native/program/spec.h.
 */
export interface LookupSpec {
  readonly label: string
  /** [V, W]; its dtype does not matter. */
  readonly table: WeightSpec
  /** An input of the step: [T, N] i32. */
  readonly rows: string
  /** A buffer [T, N * W] f32. */
  readonly out: string
}
