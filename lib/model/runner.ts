/** A compiled model on a device, as the engine sees it. */
import {
  type DeviceInfo,
  fromNative,
  type NativeDevice,
  type NativeKvCache,
  type NativeProgram,
  type RunOptions,
  type RunResult,
} from '../addon/binding.js'
import type { ModelDevice } from '../addon/device.js'
import type { Runner, RunnerCache, Step, StepResult, WantedLogits } from '../engine/runner.js'
import type { ModelDescription } from '../families/family.js'
import { TOP_LOGITS, topLogitsOf } from '../layers/decoder.js'
import type { HeldType } from '../options/generate.js'
import { type ModelSpec, type Router, routersOf } from '../program/model-spec.js'
import type { TopLogits } from '../sampling/top-logits.js'
import { type Fingerprint, fingerprintOf } from './fingerprint.js'
import { missingTokens, padded } from './padding.js'

/**
 * Tokens per page of the KV cache: a multiple of 16; large enough for whole tiles of keys, small
 * enough that short sequences waste little.
 */
export const PAGE_SIZE = 64

export interface RunnerParts {
  readonly device: NativeDevice
  readonly program: NativeProgram
  readonly cache: NativeKvCache
  readonly model: ModelDescription
  readonly spec: ModelSpec
  /** With the experts of all ranks of a group, for the fingerprint. */
  readonly whole?: ModelSpec
  /** Type of most matrices. */
  readonly matrixType: HeldType
  readonly kvCacheDtype: 'float32' | 'bfloat16'
  /** As asked for. */
  readonly activationDtype: 'auto' | 'bfloat16'
  /** Of the cache, for sequences. */
  readonly pages: number
  /** Another page of it, if steps are to be padded (padding.ts). */
  readonly paddingPage: number | undefined
  readonly contextLength: number
  readonly maxStepTokens: number
  readonly maxLogitRows: number
  readonly draftingTokens: number
  readonly description: ModelDevice
}

function logitBuffers({ whole, top, logSumExp }: WantedLogits): string[] {
  return [
    ...(whole ? ['logits'] : []),
    ...(top ? [TOP_LOGITS.values, TOP_LOGITS.indices] : []),
    ...(logSumExp ? [TOP_LOGITS.expSum] : []),
  ]
}

export class DeviceRunner implements Runner {
  readonly vocabSize: number
  readonly topLogits: number
  readonly reach: number
  readonly contextLength: number
  readonly pageSize = PAGE_SIZE
  readonly pages: number
  readonly maxStepTokens: number
  readonly maxLogitRows: number
  readonly draftingTokens: number
  readonly device: ModelDevice
  readonly captureNames: readonly string[]
  readonly routers: readonly Router[]
  readonly cache: RunnerCache
  readonly #parts: RunnerParts
  #fingerprint: Promise<Fingerprint> | undefined

  constructor(parts: RunnerParts) {
    this.#parts = parts
    const { config } = parts.model
    this.vocabSize = config.vocabSize
    this.topLogits = topLogitsOf(config)
    this.reach = parts.model.ngrams?.reach ?? 0
    this.contextLength = parts.contextLength
    this.pages = parts.pages
    this.maxStepTokens = parts.maxStepTokens
    this.maxLogitRows = parts.maxLogitRows
    this.draftingTokens = parts.draftingTokens
    this.device = parts.description
    this.captureNames = parts.spec.captures
    this.routers = routersOf(parts.spec)
    this.cache = {
      ...parts.spec.cache,
      dtype: parts.kvCacheDtype === 'float32' ? 'f32' : 'bf16',
    }
  }

  /** Tokens that the device computes for a step: its own, and those that pad it. */
  protected tokensOf(step: Step): number {
    const isPadded = this.#parts.paddingPage !== undefined
    return step.tokens.length + (isPadded ? missingTokens(step) : 0)
  }

  async run(wanted: Step, cancel?: BigInt64Array): Promise<StepResult> {
    const control = cancel && { control: cancel }
    const result = await this.compute(wanted, (program, step) =>
      program.run({ ...step, ...control }),
    )
    return result!
  }

  /** Undefined if `run` is. */
  protected async compute(
    wanted: Step,
    run: (program: NativeProgram, step: RunOptions) => Promise<RunResult | undefined>,
  ): Promise<StepResult | undefined> {
    const { paddingPage, model } = this.#parts
    const step = paddingPage === undefined ? wanted : padded(wanted, paddingPage)
    const R = wanted.logitRows.length
    const sequences = step.sequenceStarts.length - 1
    try {
      const result = await run(this.#parts.program, {
        sizes: {
          T: step.tokens.length,
          R: step.logitRows.length,
          B: sequences,
          M: step.pageTable.length / Math.max(1, sequences),
        },
        inputs: {
          tokens: step.tokens,
          positions: step.positions,
          sequence_starts: step.sequenceStarts,
          page_table: step.pageTable,
          frequencies: model.rope.rows(step.keyVariants),
          ...(model.ngrams && { ngram_rows: model.ngrams.rows(step.tokens, step.preceding) }),
          logit_rows: step.logitRows,
        },
        cache: this.#parts.cache,
        copies: step.copies,
        capture: [...step.capture, ...logitBuffers(step.wanted)],
      })
      if (!result) return undefined
      const {
        logits,
        [TOP_LOGITS.values]: values,
        [TOP_LOGITS.indices]: ids,
        [TOP_LOGITS.expSum]: expSums,
        ...captured
      } = result
      return {
        ...(logits && { logits: (logits as Float32Array).subarray(0, R * this.vocabSize) }),
        ...(values &&
          ids && { top: this.#topRows(R, values as Float32Array, ids as Int32Array, expSums) }),
        captured,
      }
    } catch (error) {
      throw fromNative(error)
    }
  }

  #topRows(
    R: number,
    values: Float32Array,
    ids: Int32Array,
    expSums?: Float32Array | Int32Array,
  ): TopLogits[] {
    const K = this.topLogits
    return Array.from({ length: R }, (_, row) => {
      const logits = values.subarray(row * K, (row + 1) * K)
      return {
        vocabSize: this.vocabSize,
        logits,
        ids: ids.subarray(row * K, (row + 1) * K),
        ...(expSums && { logSumExp: logits[0]! + Math.log(expSums[row]!) }),
      }
    })
  }

  /** The device, the weights on it, and what the largest step has worked in; not during a step. */
  info(): {
    device: DeviceInfo
    weightBytes: number
    stepBytes: number
    matrixType: HeldType
    kvCacheDtype: 'float32' | 'bfloat16'
    activationDtype: 'auto' | 'bfloat16'
  } {
    const { device, program, matrixType, kvCacheDtype, activationDtype } = this.#parts
    const { weightBytes, stepBytes = 0 } = program.info()
    return {
      device: device.info(),
      weightBytes,
      stepBytes,
      matrixType,
      kvCacheDtype,
      activationDtype,
    }
  }

  keyVariant(length: number): number {
    return this.#parts.model.rope.keyVariant(length)
  }

  readPage(layer: number, page: number): Float32Array {
    return native(() => this.#parts.cache.readPage(layer, page))
  }

  writePage(layer: number, page: number, values: Float32Array): void {
    native(() => this.#parts.cache.writePage(layer, page, values))
  }

  /** Of the checkpoint's files as they are at the first call. */
  fingerprint(): Promise<Fingerprint> {
    const { spec, whole = spec } = this.#parts
    this.#fingerprint ??= fingerprintOf({ ...this.#parts, spec: whole }).catch(error => {
      this.#fingerprint = undefined
      throw error
    })
    return this.#fingerprint
  }

  async close(): Promise<void> {
    await this.#parts.program.close()
    this.#parts.cache.close()
    this.#parts.device.close()
  }
}

function native<T>(call: () => T): T {
  try {
    return call()
  } catch (error) {
    throw fromNative(error)
  }
}
