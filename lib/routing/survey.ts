/** Routes a whole text through a model, window by window. Memory does not grow with the text. */
import type { Model } from '../generation/model.js'
import type { ModelSpec } from '../program/model-spec.js'
import type { Subject, TokenRows } from './types.js'

export interface SurveyOptions {
  readonly model: Model
  readonly spec: ModelSpec
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
 * @throws MoeppError ERR_ABORTED, ERR_BAD_PROMPT if the text has no token, what the model throws
 */
export declare function survey(options: SurveyOptions): Promise<Subject>
