/** The data inside the report's page. Node writes it, the page reads it. */
import type { ExpertKind } from '../program/expert-kinds.js'

/** Bytes, deflated without a header, as base64. */
export type Packed = string

export interface PageData {
  /** JSON of the RoutingReport. */
  readonly report: Packed
  /** One for each subject; null where there is none. */
  readonly samples: readonly (PackedSample | null)[]
}

/** n tokens, L layers with experts. */
export interface PackedSample {
  readonly tokens: number
  readonly layers: readonly SampleLayer[]
  /** The first token of each window that begins: its number here, the window's, its place there. */
  readonly starts: readonly (readonly [index: number, window: number, position: number])[]
  /** JSON: the id and the text of each token that differs from all before it. */
  readonly dictionary: Packed
  /** [n] places in the dictionary. */
  readonly entries: PackedColumn
  /** [L, n] bytes: a token's FFN experts with a weight above 0. */
  readonly ffnExperts: Packed
  /** Blocks of PATH_BLOCK tokens, the last one shorter. Large ones: of the first tokens alone. */
  readonly paths: readonly PackedPaths[]
  /** Tokens of all these blocks. */
  readonly pathTokens: number
}

export interface SampleLayer {
  readonly layer: number
  readonly topK: number
  /** [E] */
  readonly kinds: readonly ExpertKind[]
}

/** Bytes of all paths of a page, which are most of its size. */
export const PATH_BYTES = 4e6
/** Of all paths: a pick takes three or four bytes, two at least unless the text repeats itself. */
export const PATH_PICKS = PATH_BYTES / 2

/** Tokens of a block of paths. */
export const PATH_BLOCK = 512

/** Paths of m tokens. Each column is [m, K] of the first layer, then of the next one. */
export interface PackedPaths {
  readonly experts: PackedColumn
  readonly weights: PackedColumn
  readonly logits: PackedColumn
  readonly replaced: PackedColumn
}

/** Numbers v as integers: v = (least + integer) step. */
export interface PackedColumn {
  readonly least: number
  readonly step: number
  /** Of an integer, little-endian. */
  readonly bytes: 1 | 2 | 4
  /** True: the integer 0 stands for a number that is not finite. */
  readonly hasHoles: boolean
  readonly data: Packed
}
