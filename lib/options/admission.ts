/** The option `admit`: a caller's own queue before the engine's. */
import { show } from '../base/json.js'

/**
 * The load that a call is about to put on the model: what the option `admit` is given.
 *
 * @example
 * ```ts
 * import { type CallLoad, loadModel } from 'moepp'
 *
 * const admit = ({ promptTokens, maxNewTokens }: CallLoad) => {
 *   if (promptTokens + maxNewTokens > 2000) throw new Error('too long for this service')
 * }
 * const model = await loadModel('npm:moepp-books-7m')
 * console.log((await model.generate('The old man', { admit, maxNewTokens: 8 })).text)
 * ```
 */
export interface CallLoad {
  /** Texts that it computes: each prompt of a batch, and each of its `numReturnSequences`. */
  readonly sequences: number
  /** Tokens of their prompts together. */
  readonly promptTokens: number
  /** Most tokens that they may generate together: what `maxNewTokens` and the context allow. */
  readonly maxNewTokens: number
}

/** See GenerateOptions.admit. */
export type Admit = (load: CallLoad) => void | Promise<void>

export function admission(value: unknown, name: string): Admit {
  if (typeof value === 'function') return value as Admit
  throw new TypeError(`${name}: expected a function, got ${show(value)}`)
}
