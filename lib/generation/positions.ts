/** Warns once when a text gets longer than the model was trained for. */
import type { ModelConfig } from '../families/family.js'

/**
 * Nothing limits the length of a text, as upstream. But without RoPE scaling a model has never seen
 * positions past max_position_embeddings, and what it computes there is mostly nonsense.
 */
export class PositionWarning {
  readonly #most: number
  #isDue: boolean

  constructor({ maxPositionEmbeddings, ropeScaling }: ModelConfig) {
    this.#most = maxPositionEmbeddings
    this.#isDue = ropeScaling === null
  }

  /** Notes the number of positions of a text. Only the first that is too long warns. */
  note(positions: number): void {
    if (!this.#isDue || positions <= this.#most) return
    this.#isDue = false
    process.emitWarning(
      `a text has passed the ${this.#most} positions that the model was made for ` +
        '(max_position_embeddings, without RoPE scaling): expect worse text from there on',
      { type: 'MoeppWarning', code: 'MOEPP_BEYOND_POSITIONS' },
    )
  }
}
