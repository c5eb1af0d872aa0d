/** All that loading and estimates know of the kinds of devices: a new kind is a line here. */
import type { DeviceInfo } from '../addon/binding.js'

export interface DeviceTraits {
  /** Of one step: enough for the GEMMs to reach their rate, few enough that a step is short. */
  readonly maxStepTokens: number
  /** Pages of the KV cache that no sequence has: see model/padding.ts. */
  readonly paddingPages: 0 | 1
  /** True if the whole KV cache takes its memory at once, false if as it is used. */
  readonly preallocatesCache: boolean
  /** True if the inputs of bf16 matrices are rounded to bf16 in any case. */
  readonly roundsBf16Inputs: boolean
  /** True if packed weights are used from the mapped file. */
  readonly mapsPacked: boolean
  /**
   * The step of an estimate. 'prompt': of one text, and it must fit. 'largest': of a full cache,
   * with the logits of each token; it may never run, so that loading does not ask for its memory.
   */
  readonly estimatedStep: 'prompt' | 'largest'
  /** Of each thread of the host that computes. */
  readonly threadBytes: number
  /** Of the driver: code of kernels, recorded steps, what it rounds up. */
  readonly driverBytes: number
}

/** By the part of a device's name before the colon. */
export const DEVICE_TRAITS: Readonly<Record<'cpu' | 'cuda', DeviceTraits>> = {
  cpu: {
    maxStepTokens: 512,
    paddingPages: 0,
    preallocatesCache: false,
    roundsBf16Inputs: false,
    mapsPacked: true,
    estimatedStep: 'prompt',
    // native/host/thread_pool.h, kScratchBytes. Of kJobScratchBytes little is ever touched.
    threadBytes: 2 * 2 ** 20,
    driverBytes: 0,
  },
  cuda: {
    maxStepTokens: 2048,
    paddingPages: 1,
    preallocatesCache: true,
    roundsBf16Inputs: true,
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
