/** The engine's view of a model on a device: one step at a time over pages of a KV cache. */

import type { ModelDevice } from '../addon/device.js'
import type { CacheShape, Router } from '../program/model-spec.js'
import type { TopLogits } from '../sampling/top-logits.js'

/** A step: T tokens of B sequences, each sequence's tokens side by side. */
export interface Step {
  /** [T] token ids. */
  readonly tokens: Int32Array
  /** [T] place of each token in its sequence, from 0. */
  readonly positions: Int32Array
  /** [T, runner.reach] ids before each token in its sequence, the nearest first; 0 for none. */
  readonly preceding: Int32Array
  /**
   * [B+1]: sequence b has the tokens sequenceStarts[b] .. sequenceStarts[b+1] - 1. One sequence of
   * the engine may be several neighbours here, with the same pages and another variant of keys.
   * Each layer stores all keys of the step before it reads any.
   */
  readonly sequenceStarts: Int32Array
  /**
   * [B, M] pages of each sequence in order; entries past its last page are not read and may be
   * anything.
   */
  readonly pageTable: Int32Array
  /** [B] the variant of each sequence's keys: see Runner. */
  readonly keyVariants: Int32Array
  /** [from, to] of pages to copy before the step, one pair behind the other, in this order. */
  readonly copies: Int32Array
  /** [R] the tokens of the step whose logits are wanted, ascending. R may be 0. */
  readonly logitRows: Int32Array
  /** The part of these logits to return; nothing if R is 0. */
  readonly wanted: WantedLogits
  /** Names of buffers to return as well, `layers.3.router_logits`. */
  readonly capture: readonly string[]
}

export interface WantedLogits {
  /** All of each row. */
  readonly whole: boolean
  /** The largest of each row. */
  readonly top: boolean
  /** Their logSumExp too. */
  readonly logSumExp: boolean
}

export interface StepResult {
  /** [R, V], if wanted. */
  readonly logits?: Float32Array
  /** Of each row, if wanted. */
  readonly top?: readonly TopLogits[]
  /** Each captured buffer, [T, ...]. */
  readonly captured: Readonly<Record<string, Int32Array | Float32Array>>
}

/** Keys and values of the cache: sizes of one token's, and the type that they are held in. */
export interface RunnerCache extends CacheShape {
  readonly dtype: 'f32' | 'bf16'
}

export interface Runner {
  /** Device that it runs on. */
  readonly device: ModelDevice
  readonly vocabSize: number
  /** Number of a row's logits that `StepResult.top` holds. */
  readonly topLogits: number
  /** Tokens before each one that the model reads along with it, for n-grams. */
  readonly reach: number
  /** Tokens that a sequence may hold. */
  readonly contextLength: number
  readonly pageSize: number
  /** Pages of the KV cache, all sequences together. */
  readonly pages: number
  readonly cache: RunnerCache
  /** Tokens that one step should not exceed. */
  readonly maxStepTokens: number
  /** Rows of logits that one step should not exceed, at least two. */
  readonly maxLogitRows: number
  /**
   * Steps of up to so many tokens are filled with guesses (SequenceConsumer.draft). There a token
   * more is cheap, and a token's results do not depend on the number of tokens.
   */
  readonly draftingTokens: number
  /** Names that `Step.capture` may hold. */
  readonly captureNames: readonly string[]
  /** Layers with experts. */
  readonly routers: readonly Router[]
  /**
   * Runs one step; one at a time. `cancel` (see binding.ts, Control) ends it early with
   * ERR_ABORTED.
   */
  run(step: Step, cancel?: BigInt64Array): Promise<StepResult>
  /**
   * The variant of the keys that a sequence of `length` tokens gets; 0 is the plain keys. The
   * length is a prompt's full length, also while it is computed in chunks, and position + 1 in
   * decoding. Keys of the same text agree if their variants do; else no page may be shared.
   */
  keyVariant(length: number): number
  /**
   * One page of one layer of the cache, not while a step runs: of each head the keys
   * [S, keyDim], then the values [S, valueDim].
   */
  readPage(layer: number, page: number): Float32Array
  /** The inverse, not while a step runs. */
  writePage(layer: number, page: number, values: Float32Array): void
  /**
   * All that the bits of keys depend on beside the tokens: weights, types and arithmetic, by name.
   * @throws MoeppError ERR_NOT_FOUND, ERR_BAD_FILE if the checkpoint is gone
   */
  fingerprint(): Promise<Readonly<Record<string, string>>>
  /**
   * The engine has work: resolves when no step of other ranks of a group runs here. Each step is
   * the engine's from here to `rests`. Of a runner in a group alone.
   */
  wakes?(): Promise<void>
  /** The engine has no step until it wakes. */
  rests?(): void
  close(): Promise<void>
}
