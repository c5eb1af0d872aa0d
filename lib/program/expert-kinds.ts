/** Kinds of experts, by their number in native/ops/expert_runs.h. */
export const EXPERT_KINDS: readonly ExpertKind[] = ['ffn', 'constant', 'copy', 'zero']

/**
 * The kind of an expert: a feed-forward network, a vector that is mixed with the input, the input
 * itself, or nothing.
 *
 * @example
 * ```ts
 * import { type ExpertKind, loadModel } from 'moepp'
 *
 * const model = await loadModel('npm:moepp-books-7m')
 * const { routing } = await model.generate('The old man', { routing: true })
 * const count = (kind: ExpertKind) =>
 *   routing?.layers[0]?.kinds.filter(each => each === kind).length
 * console.log(count('ffn'), count('constant'), count('copy'), count('zero'))
 * ```
 */
export type ExpertKind = 'ffn' | 'constant' | 'copy' | 'zero'
