/** Opens the device that a model runs on. */

import { MoeppError } from '../errors.js'
import { type DeviceInfo, fromNative, loadBinding, type NativeDevice } from './binding.js'

/**
 * The device of a loaded model.
 *
 * @example
 * ```ts
 * import { loadModel, type ModelDevice } from 'moepp'
 *
 * const model = await loadModel('npm:moepp-books-7m')
 * const device: ModelDevice = model.device
 * console.log(device.name, device.isa)
 * ```
 */
export interface ModelDevice {
  /** 'cpu', 'cuda:0'. */
  readonly name: string
  /** The processor's or the graphics card's own name. */
  readonly model: string
  /**
   * The instruction set in use: 'avx512'. Of a GPU the one that its kernels were compiled for:
   * 'sm_90a'.
   */
  readonly isa: string
  /**
   * The reason that `device: 'auto'` did not take a GPU; absent if it did, or if a device was
   * named.
   */
  readonly reason?: string
}

export interface CpuOptions {
  readonly threads: number | undefined
  /** Default: the fastest for bf16. */
  readonly isa: string | undefined
}

/**
 * @throws MoeppError ERR_UNSUPPORTED, ERR_NO_GPU, ERR_DRIVER_TOO_OLD, ERR_GPU_TOO_OLD, ERR_DEVICE
 */
export function openDevice(
  name: 'cpu' | `cuda:${number}`,
  { threads, isa }: Partial<CpuOptions> = {},
): NativeDevice {
  const { Device } = loadBinding()
  try {
    return new Device(name, { ...(threads && { threads }), ...(isa && { isa }) })
  } catch (error) {
    throw fromNative(error)
  }
}

/**
 * The GPU that 'auto' found, or the reason against one. `expected`: true for a CPU build, or
 * without a GPU in the machine; there is then no warning.
 */
export type FoundGpu =
  | { readonly device: NativeDevice }
  | { readonly reason: string; readonly expected: boolean }

/** The first GPU. Nothing is thrown: a GPU that cannot be used is a reason. */
export function findGpu(): FoundGpu {
  const { cuda } = loadBinding()
  const { built, problem, devices } = cuda()
  if (!built) return { reason: problem, expected: true }
  try {
    return { device: openDevice('cuda:0') }
  } catch (error) {
    const { code, message } = error as MoeppError
    return { reason: message, expected: code === 'ERR_NO_GPU' && devices === 0 }
  }
}

/**
 * The reason that so many bytes do not fit on the device. Undefined if they do, or if it shares the
 * host's memory.
 */
export function tooLarge(info: DeviceInfo, bytes: number): string | undefined {
  if (info.totalBytes === 0 || bytes <= info.freeBytes) return undefined
  const gib = (n: number) => `${(n / 2 ** 30).toFixed(1)} GiB`
  return `${info.name} (${info.model}) has ${gib(info.freeBytes)} of ${gib(info.totalBytes)} free, the model needs ${gib(bytes)}`
}

/**
 * Says in one line why a GPU that is there is not used: a Node warning, which programs can catch or
 * silence.
 */
export function warnFallback(reason: string): void {
  process.emitWarning(`the model runs on the CPU: ${reason}`, {
    type: 'MoeppWarning',
    code: 'MOEPP_CPU_FALLBACK',
  })
}

export function describeDevice({ name, model, isa }: DeviceInfo, reason?: string): ModelDevice {
  return Object.freeze({ name, model, isa, ...(reason !== undefined && { reason }) })
}

/**
 * True if a failure to load on a GPU is the GPU's: the model does not fit, or the device failed.
 */
export function isGpuFailure(error: unknown): error is MoeppError {
  return error instanceof MoeppError && ['ERR_OUT_OF_MEMORY', 'ERR_DEVICE'].includes(error.code)
}
