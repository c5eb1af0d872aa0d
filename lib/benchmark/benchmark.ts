/**
 * Measures a model's speed as llama-bench does: prefill and decode of fixed tokens, repeated, with
 * the ceilings between.
 */
import type { DeviceInfo } from '../addon/binding.js'
import type { ModelConfig } from '../families/family.js'
import { loadParts } from '../load/load.js'
import { PAGE_SIZE } from '../model/runner.js'
import { type LoadOptions, resolveLoadOptions } from '../options/generate.js'
import {
  bytesOfStep,
  cacheBytes,
  type ModelSpec,
  operationsOfPrefill,
} from '../program/model-spec.js'
import { DTYPES } from '../tensor/dtypes.js'
import {
  type Ceilings,
  ceilingsOf,
  type MeasureCeilings,
  mean,
  meanCeilings,
  peakFor,
} from './ceilings.js'
import { Sequences } from './sequences.js'
import { sequenceTokens, type Workload } from './workload.js'

export interface BenchOptions {
  readonly model: string
  readonly workloads: readonly Workload[]
  readonly repetitions: number
  readonly load: LoadOptions
  readonly signal?: AbortSignal
  /** After each workload. */
  readonly onResult?: (result: BenchResult) => void
}

export interface BenchResult {
  readonly workload: Workload
  /** Tokens per second of each repetition, all sequences together. */
  readonly samples: readonly number[]
  readonly mean: number
  /** Standard deviation of the samples; 0 for one. */
  readonly sd: number
  /** Mean over the measured tokens and layers. */
  readonly ffnExpertsPerToken: number
  /** Bytes that must be read (decode) or operations that must be computed (prefill), per token. */
  readonly workPerToken: number
  /**
   * Pages that the process had to wait for the disk for, in each repetition. With any, the disk is
   * measured too.
   */
  readonly majorPageFaults: readonly number[]
  /** All that was measured of the machine, means over the repetitions. null where unknown. */
  readonly ceilings: Ceilings | null
  /**
   * The machine's ceiling, and the share of it that was reached: means over the repetitions. null
   * where unknown.
   */
  readonly ceiling: { readonly name: string; readonly rate: number; readonly share: number } | null
}

export interface BenchReport {
  readonly device: DeviceInfo
  readonly config: ModelConfig
  /** Of the matrices on the device. */
  readonly dtype: string
  readonly kvCacheDtype: string
  /** As asked for. */
  readonly activationDtype: string
  readonly repetitions: number
  readonly loadSeconds: number
  /** From the start of loading to the token after a prompt of 32. */
  readonly firstTokenSeconds: number
  readonly memory: {
    readonly peakBytes: number
    readonly weightBytes: number
    /** Of the pages that the tests touch. */
    readonly kvCacheBytes: number
    /** Peak by weights and cache together. */
    readonly ratio: number
  }
  readonly results: readonly BenchResult[]
}

/** The token after a short prompt. */
const FIRST_TOKEN: Workload = {
  name: 'first token',
  kind: 'decode',
  tokens: 1,
  context: 32,
  batch: 1,
}

/** Undefined at another rank of a group than 0, where all sequences are. */
export async function bench(options: BenchOptions): Promise<BenchReport | undefined> {
  const { workloads, signal } = options
  const all = [FIRST_TOKEN, ...workloads]
  const maxTokens = longestOf(all)
  const cacheTokens =
    maxTokens.reduce((sum, tokens) => sum + Math.ceil(tokens / PAGE_SIZE), 0) * PAGE_SIZE
  const load = resolveLoadOptions({
    ...options.load,
    contextLength: Math.max(...maxTokens),
    kvCacheTokens: cacheTokens,
    ...(signal && { signal }),
  })
  const started = performance.now()
  const { runner, config, spec, lockstep } = await loadParts(options.model, load)
  const secondsSince = () => (performance.now() - started) / 1000
  const loadSeconds = secondsSince()
  try {
    lockstep?.begin()
    if (lockstep && lockstep.rank > 0) {
      await lockstep.ended
      return undefined
    }
    const sequences = new Sequences(runner, maxTokens)
    await sequences.fill(1, FIRST_TOKEN.context, signal)
    await sequences.decode(1, FIRST_TOKEN.context, FIRST_TOKEN.tokens, signal)
    const firstTokenSeconds = secondsSince()
    const { device, weightBytes, matrixType: dtype, kvCacheDtype, activationDtype } = runner.info()
    const cacheDtype = DTYPES[kvCacheDtype]
    const measurement = new Measurement({
      sequences,
      spec,
      layers: runner.routers.length,
      products: activationDtype === 'bfloat16' ? 'rounded' : dtype,
      cacheDtype,
      ceilings: ceilingsOf(device),
      repetitions: options.repetitions,
      signal,
    })
    const results: BenchResult[] = []
    for (const workload of workloads) {
      const result = await measurement.of(workload)
      results.push(result)
      options.onResult?.(result)
    }
    const kvCacheBytes = cacheBytes(spec.cache, cacheTokens, cacheDtype)
    const { peakBytes } = measurement
    return {
      device,
      config,
      dtype,
      kvCacheDtype,
      activationDtype,
      repetitions: options.repetitions,
      loadSeconds,
      firstTokenSeconds,
      memory: {
        peakBytes,
        weightBytes,
        kvCacheBytes,
        ratio: peakBytes / (weightBytes + kvCacheBytes),
      },
      results,
    }
  } finally {
    await runner.close()
  }
}

/** Of each sequence, the most tokens that a workload has it grow to. */
function longestOf(workloads: readonly Workload[]): number[] {
  const longest: number[] = []
  for (const workload of workloads) {
    for (let b = 0; b < workload.batch; b++)
      longest[b] = Math.max(longest[b] ?? 0, sequenceTokens(workload))
  }
  return longest
}

interface MeasurementParts {
  readonly sequences: Sequences
  readonly spec: ModelSpec
  /** With experts. */
  readonly layers: number
  /** A key of ceilings.ts' instructions. */
  readonly products: string
  readonly cacheDtype: 'f32' | 'bf16'
  readonly ceilings: MeasureCeilings
  readonly repetitions: number
  readonly signal: AbortSignal | undefined
}

class Measurement {
  readonly #parts: MeasurementParts
  #peakBytes = 0
  /** Memory that measuring the ceilings holds from its first time on. */
  #ceilingBytes: number | undefined

  constructor(parts: MeasurementParts) {
    this.#parts = parts
  }

  /**
   * Most memory that the process held for the model: what measuring the ceilings takes is left out.
   */
  get peakBytes(): number {
    return this.#peakBytes
  }

  async of(workload: Workload): Promise<BenchResult> {
    const { sequences, signal, repetitions } = this.#parts
    const { kind, batch, context, tokens } = workload
    // Warms up too.
    const { work, picks } =
      kind === 'prefill' ? await this.#prefillWork(workload) : await this.#decodeWork(workload)
    this.#noteMemory()
    const samples: number[] = []
    const majorPageFaults: number[] = []
    const ceilings: Ceilings[] = []
    let before = await this.#measureCeilings()
    for (let i = 0; i < repetitions; i++) {
      const faults = majorFaults()
      const started = performance.now()
      if (kind === 'prefill') await sequences.prefill(batch, tokens, signal)
      else await sequences.decode(batch, context, tokens, signal)
      const seconds = (performance.now() - started) / 1000
      majorPageFaults.push(majorFaults() - faults)
      this.#noteMemory()
      samples.push((batch * tokens) / seconds)
      const after = await this.#measureCeilings()
      const between = before && after && meanCeilings([before, after])
      if (between) ceilings.push(between)
      before = after
    }
    const all = batch * tokens
    return {
      workload,
      samples,
      mean: mean(samples),
      sd: deviation(samples),
      ffnExpertsPerToken: picks / (all * Math.max(1, this.#parts.layers)),
      workPerToken: work / all,
      majorPageFaults,
      ceilings: meanCeilings(ceilings),
      ceiling: this.#reached(
        kind,
        samples.map(rate => (rate * work) / all),
        ceilings,
      ),
    }
  }

  /** `rates`, of the work by seconds, against what the machine could do meanwhile. */
  #reached(kind: Workload['kind'], rates: readonly number[], ceilings: readonly Ceilings[]) {
    const limits = ceilings.map(({ readBandwidth, peaks }) =>
      kind === 'prefill'
        ? peakFor(this.#parts.products, peaks)
        : { name: 'read', rate: readBandwidth },
    )
    const [first] = limits
    if (!first) return null
    return {
      name: first.name,
      rate: mean(limits.map(({ rate }) => rate)),
      share: mean(limits.map(({ rate }, i) => rates[i]! / rate)),
    }
  }

  async #prefillWork({ batch, tokens }: Workload) {
    const { sequences, spec, signal } = this.#parts
    const routing = await sequences.prefillRouting(batch, tokens, signal)
    return {
      work: operationsOfPrefill(spec, batch * tokens, routing, batch),
      picks: routing.picks,
    }
  }

  async #decodeWork({ batch, context, tokens }: Workload) {
    const { sequences, spec, cacheDtype, signal } = this.#parts
    await sequences.fill(batch, context, signal)
    const routings = await sequences.decodeRouting(batch, context, tokens, signal)
    let work = 0
    for (const [i, routing] of routings.entries()) {
      work += bytesOfStep(spec, routing, batch * (context + i + 1), cacheDtype)
    }
    return { work, picks: routings.reduce((sum, { picks }) => sum + picks, 0) }
  }

  /**
   * The first time, before any ceiling, the process's high-water mark is the model's alone; later
   * it is sampled.
   */
  #noteMemory(): void {
    const isFirst = this.#peakBytes === 0
    const bytes = isFirst ? process.resourceUsage().maxRSS * 1024 : process.memoryUsage.rss()
    this.#peakBytes = Math.max(this.#peakBytes, bytes - (this.#ceilingBytes ?? 0))
  }

  async #measureCeilings(): Promise<Ceilings | null> {
    const before = process.memoryUsage.rss()
    const ceilings = await this.#parts.ceilings()
    this.#ceilingBytes ??= Math.max(0, process.memoryUsage.rss() - before)
    return ceilings
  }
}

/** Of this process, so far. Windows counts all faults together, which says nothing of the disk. */
function majorFaults(): number {
  return process.platform === 'win32' ? 0 : process.resourceUsage().majorPageFault
}

/** Of a sample: divided by n - 1. */
export function deviation(values: readonly number[]): number {
  if (values.length < 2) return 0
  const middle = mean(values)
  return Math.sqrt(
    values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (values.length - 1),
  )
}
