/** A compiled model on a device, as the engine sees it. */
import {
  type DeviceInfo,
  fromNative,
  type NativeDevice,
  type NativeKvCache,
  type NativeProgram,
} from '../binding.js'
import type { ModelConfig } from '../config.js'
import type { Runner, Step, StepResult } from '../engine/runner.js'
import { RopeFrequencies } from './frequencies.js'
import { captureNames } from './moepp.js'

/** Tokens per page of the KV cache: a multiple of 16 lanes, small enough that short sequences waste little. */
export const PAGE_SIZE = 32

/** Tokens of one step: enough for the GEMMs to reach their rate, few enough that a step is short. */
const MAX_STEP_TOKENS = 512

export interface RunnerParts {
  readonly device: NativeDevice
  readonly program: NativeProgram
  readonly cache: NativeKvCache
  readonly config: ModelConfig
  readonly pages: number
  readonly contextLength: number
}

export class DeviceRunner implements Runner {
  readonly vocabSize: number
  readonly contextLength: number
  readonly pageSize = PAGE_SIZE
  readonly pages: number
  readonly maxStepTokens = MAX_STEP_TOKENS
  readonly captureNames: readonly string[]
  readonly #parts: RunnerParts
  readonly #frequencies: RopeFrequencies

  constructor(parts: RunnerParts) {
    this.#parts = parts
    this.vocabSize = parts.config.vocabSize
    this.contextLength = parts.contextLength
    this.pages = parts.pages
    this.captureNames = captureNames(parts.config)
    this.#frequencies = new RopeFrequencies(parts.config)
  }

  async run(step: Step, cancel?: BigInt64Array): Promise<StepResult> {
    const sequences = step.sequenceStarts.length - 1
    try {
      const { logits, ...captured } = await this.#parts.program.run({
        sizes: {
          T: step.tokens.length,
          R: step.logitRows.length,
          B: sequences,
          M: step.pageTable.length / sequences,
        },
        inputs: {
          tokens: step.tokens,
          positions: step.positions,
          sequence_starts: step.sequenceStarts,
          page_table: step.pageTable,
          frequencies: step.frequencies,
          logit_rows: step.logitRows,
        },
        cache: this.#parts.cache,
        capture: step.capture,
        ...(cancel && { control: cancel }),
      })
      return { logits: logits as Float32Array, captured }
    } catch (error) {
      throw fromNative(error)
    }
  }

  copyPage(from: number, to: number): void {
    try {
      this.#parts.cache.copyPage(from, to)
    } catch (error) {
      throw fromNative(error)
    }
  }

  /** The device, and the bytes of the weights on it. */
  info(): { device: DeviceInfo; weightBytes: number } {
    const { device, program } = this.#parts
    return { device: device.info(), weightBytes: program.info().weightBytes }
  }

  frequencies(length: number): Float32Array {
    return this.#frequencies.of(length)
  }

  async close(): Promise<void> {
    await this.#parts.program.close()
    this.#parts.cache.close()
    this.#parts.device.close()
  }
}
