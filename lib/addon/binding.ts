/**
 * Finds and loads the native addon, and gives types to everything in it. The only file that loads
 * the `.node` file.
 */

import { MoeppError, type MoeppErrorCode } from '../errors.js'
import type {
  MatrixLayout,
  NamedRef,
  QuantisedDType,
  StoredDType,
  WeightDType,
  WeightPart,
} from '../tensor/tensor-ref.js'
import {
  type AddonFile,
  checkWhole,
  explainFailure,
  findAddon,
  findPackageRoot,
  platformName,
} from './addon-file.js'
import type { LookupSpec } from './lookup-spec.js'

/**
 * A size, or one known only when a step runs. T: tokens, R: logit rows, B: sequences, M: pages per
 * sequence, P: tokens of all ranks.
 */
export type Dimension = number | 'T' | 'R' | 'B' | 'B+1' | 'M' | 'P'

export interface BufferSpec {
  readonly name: string
  readonly dtype: 'f32' | 'i32'
  readonly shape: readonly Dimension[]
}

/** Order of a weight's elements in memory: `Layout` of native/tensor.h. */
export type WeightLayout = 'rows' | MatrixLayout

export interface WeightSpec {
  readonly name: string
  /** On the device; the stored parts are converted. */
  readonly dtype: WeightDType
  readonly shape: readonly number[]
  /**
   * One packed weight, or stored tensors, one below the other along the first axis. Those that are
   * [O, W] of a matrix [O, the sum of all W] are side by side. `name` is for errors.
   */
  readonly parts: readonly WeightPart[]
}

/**
 * A weight to be written in the layout of the op that reads it: int8 and int4 as matrices, f32 and
 * bf16 in rows.
 */
export interface PackedEntry {
  readonly weight: WeightSpec
  readonly layout: WeightLayout
  /** Of int8 and int4 weights a multiple of 64. */
  readonly byteOffset: number
}

/** A number, or a short list of them: `Attribute` of native/spec.h. */
export type Attribute = number | readonly number[]

export interface OpSpec {
  /** A name in native/ops.h. */
  readonly op: string
  /** For errors: `layers.3.moe.gate_up`. */
  readonly label: string
  /** Field of the op's struct to the name of a buffer or weight. */
  readonly tensors: Readonly<Record<string, string>>
  readonly attributes: Readonly<Record<string, Attribute>>
}

export interface ProgramSpec {
  readonly buffers: readonly BufferSpec[]
  readonly weights: readonly WeightSpec[]
  readonly ops: readonly OpSpec[]
  readonly lookups: readonly LookupSpec[]
  /** Buffers that each step brings. */
  readonly inputs: readonly string[]
  /** Buffers that every run returns. */
  readonly outputs: readonly string[]
  /** 'bf16': inputs of products with bf16 weights may be rounded to bf16. */
  readonly compute: 'exact' | 'bf16'
}

/**
 * A step of a program in a group may have no tokens: T, R and B are 0 then. P is at least T, and T
 * unless given.
 */
export type Sizes = Readonly<Record<'T' | 'R' | 'B' | 'M', number>> & { readonly P?: number }

/**
 * [bytes done, cancelled]: native adds to the first while it works; set the second to 1n to end the
 * call.
 */
export type Control = BigInt64Array

export interface RunOptions {
  readonly sizes: Sizes
  /**
   * Every input of the program, Int32Array or Float32Array. They must not change until the run has
   * ended.
   */
  readonly inputs: Readonly<Record<string, Int32Array | Float32Array>>
  readonly cache?: NativeKvCache
  /**
   * [from, to] of pages of the cache, one pair behind the other: every layer is copied, in this
   * order, before the ops run.
   */
  readonly copies?: Int32Array
  /** Further buffers to return. */
  readonly capture?: readonly string[]
  readonly control?: Control
}

export type RunResult = Record<string, Int32Array | Float32Array>

export interface NativeProgram {
  /**
   * One step. ERR_BUSY while another runs, ERR_CLOSED after close, ERR_ABORTED when cancelled. In a
   * group every rank runs it, and nothing cancels it. A failure on any rank ends the group.
   */
  run(options: RunOptions): Promise<RunResult>
  /**
   * In a group. The ranks exchange mail first, one message for each rank. A message begins with the
   * tokens of its sender's step, as u32. P is their sum; without any no op runs, and the result is
   * undefined. No result may be of P rows. If a message is longer than that, `onLetters` gets all
   * of them, while the ops run. It must not throw.
   */
  exchangeAndRun(
    options: RunOptions,
    mail: readonly Uint8Array[],
    onLetters: (mail: Uint8Array[]) => void,
  ): Promise<RunResult | undefined>
  /** Waits for the run in flight. */
  close(): Promise<void>
  info(): { weightBytes: number; stepBytes?: number }
}

export interface KvCacheOptions {
  readonly layers: number
  readonly pages: number
  /** Tokens per page; a multiple of 16. */
  readonly pageSize: number
  readonly kvHeads: number
  /** Of a key and of a query, and of a value. */
  readonly keyDim: number
  readonly valueDim: number
  readonly dtype: 'f32' | 'bf16'
}

export interface NativeKvCache {
  /**
   * One page of one layer: of each head the keys [S, keyDim], then the values [S, valueDim]. Not
   * while a run is in flight.
   */
  readPage(layer: number, page: number): Float32Array
  /** The inverse. Values that the cache's type cannot hold are rounded. */
  writePage(layer: number, page: number, values: Float32Array): void
  close(): void
}

export interface DeviceInfo {
  readonly name: string
  readonly isa: string
  readonly threads: number
  readonly model: string
  /** Of a device with memory of its own, now; else 0. */
  readonly freeBytes: number
  readonly totalBytes: number
  /** Of a GPU: the words of MOEPP_CUDA_DEBUG, which switch parts of it off. */
  readonly debug: readonly string[]
  readonly multiprocessors: number
}

/** Versions are 1000 * major + 10 * minor, 0 for none. */
export interface CudaInfo {
  /** True if this build has CUDA kernels. */
  readonly built: boolean
  readonly runtimeVersion: number
  /** Newest CUDA version that the driver supports. */
  readonly driverVersion: number
  readonly devices: number
  /** The reason that there are no devices, or empty. */
  readonly problem: string
  /**
   * Matrix products that this process launched, by kernel: f32, decode, sm80 narrow, sm80, sm90
   * (GemmKernel of native/cuda/kernels/grouped_gemm/gemm.h). For tests.
   */
  readonly products: readonly number[]
}

export interface NativeDevice {
  info(): DeviceInfo
  /** Opens the way to the devices of other ranks, which all do it, before a program is compiled. */
  join(group: NativeGroup): Promise<void>
  /** @param group of the ranks that run the program together */
  compile(program: ProgramSpec, control?: Control, group?: NativeGroup): Promise<NativeProgram>
  kvCache(options: KvCacheOptions): NativeKvCache
  /** Bytes of a weight in a layout on this device. */
  weightBytes(weight: WeightSpec, layout: WeightLayout): number
  /**
   * Writes `header`, then each weight at its place, in ascending order, with zeros between them.
   * Weights have this device's layout, and are quantised if their dtype says so. Fails if the file
   * exists.
   */
  writePacked(
    path: string,
    header: Uint8Array,
    entries: readonly PackedEntry[],
    control?: Control,
  ): Promise<void>
  close(): void
}

/** Of a group, since it was made. */
export interface GroupInfo {
  readonly exchanges: number
  /** To other ranks. */
  readonly messagesSent: number
  /** To other ranks: mail, rows, and the lists of picks with them. */
  readonly bytesSent: number
  /** Rows of activations, and of experts' results, to other ranks. */
  readonly rowsSent: number
  /** FFN picks of this rank's tokens, and those of experts that it holds. */
  readonly picks: number
  readonly localPicks: number
  /** Milliseconds that steps waited for other ranks. */
  readonly waitMs: number
}

/**
 * A rank's membership in a group of ranks that run one model together. Its exchanges and the steps
 * of its programs run one after another, on a thread of its own. Every rank makes the same ones in
 * the same order. A failure on any rank ends the group on all: ERR_PARALLEL.
 */
export interface NativeGroup {
  readonly rank: number
  readonly size: number
  /**
   * messages[r] goes to rank r; the result's [r] came from it. The own one is handed through.
   * `waits`: without a deadline.
   */
  exchange(messages: readonly Uint8Array[], waits?: boolean): Promise<Uint8Array[]>
  /** Ends the group on every rank, and what waits for them now. */
  abort(reason: string): void
  /** After all other ranks have called it. Later calls fail with ERR_CLOSED. */
  close(): Promise<void>
  info(): GroupInfo
}

export interface GroupOptions {
  readonly kind: 'mpi'
  /** The file that native/parallel/mpi_shim.c was compiled to. */
  readonly library: string
  /** Of every wait for other ranks, in milliseconds; 0: none. */
  readonly deadlineMs: number
}

export interface ProcessorInfo {
  /** Instruction sets of this build that the processor can run, best first. */
  readonly isas: readonly string[]
  /** Whole CPUs that the control group allows; 0 without a limit. */
  readonly cgroupThreads: number
}

/** The layout of packed weights (native/weights/panels.h); sizes are in bytes. */
export interface PackedLayout {
  /** A file states it, and one of another name cannot be used. */
  readonly name: string
  /** Every packed weight begins at a multiple of this within its file. */
  readonly alignment: number
  readonly panelRows: number
  /** Inputs of one block; rows of a panel are whole blocks. */
  readonly blockInputs: number
  /** Of one block of a panel. */
  readonly blockBytes: Readonly<Record<QuantisedDType, number>>
  /** Most inputs of a row. */
  readonly mostInputs: number
}

export interface Binding {
  readonly Device: new (name: string, options?: { threads?: number; isa?: string }) => NativeDevice
  /** Writes `header`, then each tensor row-major in its dtype; fails when the file exists. */
  writeTensors(
    path: string,
    header: Uint8Array,
    tensors: readonly NamedRef[],
    dtypes: readonly StoredDType[],
    control?: Control,
  ): Promise<void>
  /**
   * A function that measures the bytes per second that so many threads read from memory. As long as
   * it lives it keeps the memory that it reads: `mostBytes`, or what is more than caches hold.
   */
  readBandwidth(threads: number, mostBytes: number): () => Promise<number>
  /**
   * Operations per second, a multiply-add counting as two, of each multiply-add instruction that
   * kernels of `isa` may use and this processor has (compute_peaks.h names them). By so many
   * threads at once, measured now.
   */
  computePeaks(threads: number, isa: string): Promise<Readonly<Record<string, number>>>
  processor(): ProcessorInfo
  /** True of 'cpu', 'cuda:0' and so on, whether or not there is such a device. */
  isDeviceName(name: string): boolean
  readonly packedLayout: PackedLayout
  /**
   * The instruction set that multiplies fastest here with such weights, by a measurement of some
   * milliseconds at the first call.
   * @param mayRoundX inputs of products with bf16 weights may be rounded to bf16
   */
  fastestIsa(weights: WeightDType, mayRoundX?: boolean): string
  /** Asks the driver; starts nothing on a GPU. */
  cuda(): CudaInfo
  /**
   * Of the NCCL that is found, 10000 * major + 100 * minor + patch.
   * @throws ERR_UNSUPPORTED without one, and in a build without CUDA
   */
  ncclVersion(): number
  /** Starts MPI at the first call, and waits for all other ranks to call it. */
  openGroup(options: GroupOptions): NativeGroup
  /** The ranks of a group within this process: for tests. */
  localGroups(size: number, deadlineMs: number): NativeGroup[]
  /** The file that was loaded. */
  readonly path: string
  readonly origin: AddonFile['origin']
}

/** All that this version of the package reads of an addon. */
const EXPORTS: Readonly<Record<Exclude<keyof Binding, keyof AddonFile>, true>> = {
  Device: true,
  writeTensors: true,
  readBandwidth: true,
  computePeaks: true,
  processor: true,
  isDeviceName: true,
  packedLayout: true,
  fastestIsa: true,
  cuda: true,
  ncclVersion: true,
  openGroup: true,
  localGroups: true,
}

let loaded: Binding | undefined

/**
 * Loads the addon once: `MOEPP_BINDING` if set, else a local build, else the prebuilt binary for
 * this platform.
 * @throws MoeppError ERR_NO_BINDING, naming what was tried and what to do.
 */
export function loadBinding(): Binding {
  if (loaded) return loaded
  let root: string | undefined
  let file: AddonFile | undefined
  try {
    root = findPackageRoot()
    file = findAddon(root)
    checkWhole(file, root)
    loaded = { ...openAddon(file, root), ...file }
    return loaded
  } catch (cause) {
    const words = cause instanceof Error ? cause.message : String(cause)
    // Node's own errors have a code: the file was found and did not load.
    const why =
      file && cause instanceof Error && 'code' in cause ? explainFailure(file, root, words) : words
    throw new MoeppError(
      'ERR_NO_BINDING',
      `the native addon for ${platformName()} could not be loaded: ${why}`,
      { cause },
    )
  }
}

/**
 * Not `require`: a bundler would replace it by its own, which has no files. Node's `require` does
 * the same for a `.node` file.
 */
function openAddon(file: AddonFile, root: string | undefined): Omit<Binding, keyof AddonFile> {
  const opened: { exports: Partial<Binding> } = { exports: {} }
  process.dlopen(opened, file.path)
  const { exports } = opened
  if (typeof exports.Device !== 'function')
    throw new Error(`${file.path}: an addon, but not moepp's`)
  const missing = Object.keys(EXPORTS).filter(name => !(name in exports))
  if (missing.length === 0) return exports as Omit<Binding, keyof AddonFile>
  const words = `an addon of another version of moepp, without ${missing.join(', ')}`
  throw new Error(explainFailure(file, root, words))
}

/** A native failure as a MoeppError; anything else unchanged. */
export function fromNative(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof MoeppError) return error
  const { code, op } = error as Error & { code?: unknown; op?: unknown }
  if (typeof code !== 'string' || !code.startsWith('ERR_')) return error
  return new MoeppError(code as MoeppErrorCode, error.message, typeof op === 'string' ? { op } : {})
}
