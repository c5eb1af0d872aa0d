/** All that loading and estimates know of the kinds of devices: a new kind is a line here. */
import type { DeviceInfo } from '../addon/binding.js'
import type { HeldType } from '../options/load.js'

export interface DeviceTraits {
  /** Of one step: enough for the GEMMs to reach their rate, few enough that a step is short. */
  readonly maxStepTokens: number
  /** Of a step's logits, [rows, vocabulary] in f32. */
  readonly logitBytes: number
  /** See engine/runner.ts. */
  readonly draftingTokens: Readonly<Record<HeldType, number>>
  /** Pages of the KV cache that no sequence has: see model/padding.ts. */
  readonly paddingPages: 0 | 1
  /** True if the whole KV cache takes its memory at once, false if as it is used. */
  readonly preallocatesCache: boolean
  /** True if the inputs of bf16 matrices are rounded to bf16 in any case. */
  readonly roundsBf16Inputs: boolean
  /** True if qkv and its rotation are one op: linear_rope_store of native/ops.h. */
  readonly fusesRotation: boolean
  /** True if matrices that are stored as float8 stay so, unless another type is asked for. */
  readonly holdsFloat8: boolean
  /** True if packed weights are used from the mapped file. */
  readonly mapsPacked: boolean
  /**
   * The step of an estimate. 'prompt': of one text, and it must fit. 'largest': of a full cache,
   * with logitBytes; it may never run, so that loading does not ask for its memory.
   */
  readonly estimatedStep: 'prompt' | 'largest'
  /** Of each thread of the host that computes. */
  readonly threadBytes: number
  /** Of the driver: code of kernels, recorded steps, what it rounds up. */
  readonly driverBytes: number
}

/**
 * Reading weights takes the CPU longer than multiplying does, up to about so many tokens
 * (bench/README.md).
 */
const CPU_DRAFTING_TOKENS = 32

/** By the part of a device's name before the colon. */
export const DEVICE_TRAITS: Readonly<Record<'cpu' | 'cuda', DeviceTraits>> = {
  cpu: {
    maxStepTokens: 512,
    logitBytes: 128 * 2 ** 20,
    draftingTokens: {
      float32: CPU_DRAFTING_TOKENS,
      bfloat16: CPU_DRAFTING_TOKENS,
      int8: CPU_DRAFTING_TOKENS,
      int4: CPU_DRAFTING_TOKENS,
      'int4-all': CPU_DRAFTING_TOKENS,
      float8: CPU_DRAFTING_TOKENS,
    },
    paddingPages: 0,
    preallocatesCache: false,
    roundsBf16Inputs: false,
    fusesRotation: false,
    holdsFloat8: false,
    mapsPacked: true,
    estimatedStep: 'prompt',
    // native/host/thread_pool.h, kScratchBytes. Of kJobScratchBytes little is ever touched.
    threadBytes: 2 * 2 ** 20,
    driverBytes: 0,
  },
  cuda: {
    maxStepTokens: 2048,
    logitBytes: 512 * 2 ** 20,
    // The steps whose products are those of one token, bit by bit: most_streamed_tokens of
    // native/cuda/kernels/grouped_gemm.cu.
    draftingTokens: { float32: 8, bfloat16: 8, int8: 4, int4: 2, 'int4-all': 2, float8: 4 },
    paddingPages: 1,
    preallocatesCache: true,
    roundsBf16Inputs: true,
    fusesRotation: true,
    holdsFloat8: true,
    mapsPacked: false,
    estimatedStep: 'largest',
    threadBytes: 0,
    driverBytes: 128 * 2 ** 20,
  },
}

/** Of a device by its name, `cuda:0` say. Native opens no other kinds. */
export function traitsOf({ name }: Pick<DeviceInfo, 'name'>): DeviceTraits {
  return DEVICE_TRAITS[name.split(':')[0] as keyof typeof DEVICE_TRAITS]
}

/** A smaller step would read weights for too few tokens. */
const LEAST_STEP_TOKENS = 128

/**
 * Of a step at one of so many ranks. They run each step together, so a long prompt at one rank
 * holds up the texts of all. Together they have the tokens of one process's step.
 */
export function stepTokensOf({ maxStepTokens }: DeviceTraits, ranks = 1): number {
  return Math.max(LEAST_STEP_TOKENS, Math.ceil(maxStepTokens / ranks))
}

/** Rows of logits that a step may have: see engine/runner.ts. */
export function logitRowsOf({ logitBytes }: DeviceTraits, vocabSize: number): number {
  return Math.max(2, Math.floor(logitBytes / (4 * vocabSize)))
}
