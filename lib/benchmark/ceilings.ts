/** The machine's ceilings, measured in turn with the work. */
import { type DeviceInfo, loadBinding } from '../addon/binding.js'

export interface Ceilings {
  /** Bytes per second. */
  readonly readBandwidth: number
  /** Operations per second by instruction. */
  readonly peaks: Readonly<Record<string, number>>
}

export type MeasureCeilings = () => Promise<Ceilings | null>

/**
 * Instructions that the kernels of a dtype may use; 'rounded' lists those of bfloat16 with rounded
 * activations. A share refers to the fastest of them that the processor has.
 */
const INSTRUCTIONS: Readonly<Record<string, readonly string[]>> = {
  float32: ['f32_fma'],
  bfloat16: ['f32_fma', 'bf16_amx'],
  rounded: ['f32_fma', 'bf16_dot', 'bf16_mmla', 'bf16_amx'],
  int8: ['f32_fma', 'int8_madd', 'int8_dot', 'int8_mmla', 'int8_vnni', 'int8_amx'],
  int4: ['f32_fma', 'int8_madd', 'int8_dot', 'int8_mmla', 'int8_vnni', 'int8_amx'],
  'int4-all': ['f32_fma', 'int8_madd', 'int8_dot', 'int8_mmla', 'int8_vnni', 'int8_amx'],
}

/**
 * Measures the bytes per second that a number of threads read, from at most a quarter of the memory
 * that is free now.
 */
export function readBandwidthOf(threads: number): () => Promise<number> {
  return loadBinding().readBandwidth(threads, Math.floor(process.availableMemory() / 4))
}

/** null for a device whose ceilings cannot be measured here. */
export function ceilingsOf({ name, threads, isa }: DeviceInfo): MeasureCeilings {
  if (name !== 'cpu') return async () => null
  const readBandwidth = readBandwidthOf(threads)
  const { computePeaks } = loadBinding()
  return async () => ({
    readBandwidth: await readBandwidth(),
    peaks: await computePeaks(threads, isa),
  })
}

/** The fastest instruction for products of this kind. */
export function peakFor(
  products: string,
  peaks: Ceilings['peaks'],
): { name: string; rate: number } {
  const names = (INSTRUCTIONS[products] ?? ['f32_fma']).filter(name => peaks[name] !== undefined)
  const name = names.reduce((best, each) => (peaks[each]! > peaks[best]! ? each : best), 'f32_fma')
  return { name, rate: peaks[name]! }
}

/** Of several measurements; null if there are none. */
export function meanCeilings(measured: readonly Ceilings[]): Ceilings | null {
  const [first] = measured
  if (!first) return null
  const peaks = Object.keys(first.peaks).map(name => [
    name,
    mean(measured.map(({ peaks }) => peaks[name]!)),
  ])
  return {
    readBandwidth: mean(measured.map(({ readBandwidth }) => readBandwidth)),
    peaks: Object.fromEntries(peaks),
  }
}

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}
