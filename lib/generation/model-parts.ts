/** The parts that a model is made of. */
import type { Runner } from '../engine/runner.js'
import type { ModelConfig } from '../families/family.js'
import type { Lockstep } from '../parallel/lockstep.js'
import type { Tokenizer } from '../tokenizer/tokenizer.js'
import type { GenerationConfig } from './generation-config.js'

/** @internal Parts of a Model. */
export interface ModelParts {
  /** Closed with the model. */
  readonly runner: Runner
  readonly config: ModelConfig
  /** The runner's, in a group. */
  readonly lockstep?: Lockstep
  readonly generation: GenerationConfig
  /** Absent: the model takes and gives token ids only. */
  readonly tokenizer?: Tokenizer
}
