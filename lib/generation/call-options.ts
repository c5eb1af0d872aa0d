/** The options of `forward` and `score`. */
import { boolean, signal } from '../base/option-checks.js'
import { captureNames } from './capture.js'

/**
 * Options of `Model.forward`.
 *
 * @example
 * ```ts
 * import { type ForwardOptions, loadModel } from 'moepp'
 *
 * const model = await loadModel('npm:moepp-books-7m')
 * const options: ForwardOptions = { capture: ['layers.*.expert_indices'] }
 * const { captured } = await model.forward(model.tokenizer.encode('The old man'), options)
 * console.log(Object.keys(captured))
 * ```
 */
export interface ForwardOptions {
  /**
   * Names of buffers to return, each with a row for every token: `layers.3.router_logits`. `*`
   * stands for one part of a name: `layers.*.router_logits`. There are, as float32 unless said:
   *
   * - `layers.N.router_logits` [T, experts]
   * - `layers.N.expert_indices` (int32) and `layers.N.expert_weights` [T, topK]
   * - `layers.N.constant_scores` [T, 2 C], of a layer with C constant experts: two scores for each.
   *   Their softmax is the share of the input that the expert keeps, and that of its own vector.
   *   A model that doubles its experts' input (MoE++ without `moe_feature_no_mul_topk`) doubles
   *   the scores before
   * - `layers.N.moe_output` [T, hiddenSize]
   * - `hidden_states.0` (the embeddings) to `hidden_states.L`, L the number of layers, and
   *   `final_hidden`, which is normalized [T, hiddenSize]
   *
   * Default: none.
   */
  capture?: readonly string[]
  /** False: the result's `logits` are empty, which saves their time and memory. Default true. */
  logits?: boolean
  /** True: the result has `routing`, the experts of every token. Default false. */
  routing?: boolean
  /** Ends the call early: it rejects with ERR_ABORTED. */
  signal?: AbortSignal
}

/**
 * Options of `Model.score`.
 *
 * @example
 * ```ts
 * import { loadModel, type ScoreOptions } from 'moepp'
 *
 * const model = await loadModel('npm:moepp-books-7m')
 * const options: ScoreOptions = { signal: AbortSignal.timeout(10_000) }
 * console.log((await model.score('The old', ' man', options)).logprob)
 * ```
 */
export interface ScoreOptions {
  /** As in GenerateOptions; for a prompt that is a text. */
  addSpecialTokens?: boolean
  /** As in GenerateOptions; for texts. */
  splitSpecialTokens?: boolean
  /** Ends the call early: it rejects with ERR_ABORTED. */
  signal?: AbortSignal
}

/** With the names that can be captured. */
export const FORWARD_CHECKS = {
  capture: (value: unknown, _: string, names: readonly string[]) => captureNames(value, names),
  logits: boolean,
  routing: boolean,
  signal,
}

export const SCORE_CHECKS = { addSpecialTokens: boolean, splitSpecialTokens: boolean, signal }
