/** The parts of a model that its calls share. */
import type { ModelDevice } from '../addon/device.js'
import type { Engine } from '../engine/engine.js'
import type { TextStarter } from './leader.js'
import type { PositionWarning } from './positions.js'
import type { PromptContext } from './prompt.js'

export interface CallContext {
  readonly engine: Engine
  /** Starts texts: in the engine, or at the ranks of a group. */
  readonly texts: TextStarter
  readonly device: ModelDevice
  readonly captureNames: readonly string[]
  readonly prompts: PromptContext
  readonly positions: PositionWarning
}
