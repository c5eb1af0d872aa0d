/** Routes a whole text through a model, window by window. Memory does not grow with the text. */
import type { Model } from '../generation/model.js'
import type { ModelSpec } from '../program/model-spec.js'
import type { Subject, TokenRows } from './types.js'

export interface SurveyOptions {
  readonly model: Model
  readonly spec: ModelSpec
  /** Of the KV cache: `runner.cache.dtype`. */
  readonly cacheDtype: 'f32' | 'bf16'
  readonly names: Pick<Subject, 'model' | 'file' | 'dtype'>
  /** UTF-8 text in pieces of any size. */
  readonly text: AsyncIterable<string>
  /** At most the context's length. */
  readonly windowTokens: number
  readonly addSpecialTokens: boolean
  readonly signal: AbortSignal
  /** Each window's rows, in order; the next ones wait for it. */
  readonly onRows?: (rows: TokenRows) => void | Promise<void>
  /** Characters and tokens that are done. */
  readonly onProgress?: (characters: number, tokens: number) => void
}

/**
 * The subject's cost is computed, not measured: its ceilings, `predicted` and `measured` are null.
 *
 * @throws MoeppError ERR_ABORTED, ERR_BAD_PROMPT if the text has no token, ERR_UNSUPPORTED if no
 *   layer has experts, what the model throws; RangeError for a wrong windowTokens
 */
export declare function survey(options: SurveyOptions): Promise<Subject>
