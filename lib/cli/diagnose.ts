/**
 * The facts behind `moepp doctor`: the version, the addon, the processor, the GPU driver, and why
 * each was chosen.
 */

import { readdirSync, readFileSync } from 'node:fs'
import { cpus, totalmem } from 'node:os'
import { join } from 'node:path'
import {
  type AddonFile,
  glibcVersion,
  namingVariable,
  packageRoot,
  packageVersion,
  platformName,
  prebuilds,
} from '../addon/addon-file.js'
import { loadBinding } from '../addon/binding.js'
import { findGpu } from '../addon/device.js'
import { readBandwidthOf } from '../benchmark/ceilings.js'
import { diagnoseParallel, type ParallelDiagnosis } from './diagnose-parallel.js'

export interface CpuDiagnosis {
  readonly model: string
  /** In use for float32 and bfloat16. */
  readonly isa: string
  /** In use for int8 and int4. */
  readonly quantisedIsa: string
  /** Those of this build that the processor can run, best first. */
  readonly availableIsas: readonly string[]
  readonly threads: number
  /** The reason for this number. */
  readonly threadsReason: string
  readonly memoryBytes: number
  /** Measured with all threads. */
  readonly readBytesPerSecond: number
}

export interface AddonDiagnosis extends AddonFile {
  /** The reason for this file. */
  readonly reason: string
}

export interface CudaDiagnosis {
  /** True if the addon has CUDA code. */
  readonly built: boolean
  /** CUDA's version in the addon, or null for a CPU build. */
  readonly runtimeVersion: string | null
  /** NVIDIA driver's version, if there is one, and the newest CUDA that it supports. */
  readonly driver: string | null
  readonly driverCuda: string | null
  /** Graphics cards by the driver's names. */
  readonly gpus: readonly string[]
  /** The device that `device: 'auto'` takes, or null for the CPU. */
  readonly used: string | null
  readonly reason: string
  /** Parts of the CUDA device that MOEPP_CUDA_DEBUG switches off. */
  readonly debug: readonly string[]
}

export interface Diagnosis {
  readonly version: string
  readonly node: string
  /** `linux-x64 (glibc)` */
  readonly platform: string
  /** Of the system's C library, where it is glibc. */
  readonly glibc: string | null
  readonly addon: AddonDiagnosis | { readonly error: string }
  readonly cpu: CpuDiagnosis | null
  readonly cuda: CudaDiagnosis | null
  readonly parallel: ParallelDiagnosis
}

/** Never throws because of its findings: an addon that cannot be loaded is one of them. */
export async function diagnose(): Promise<Diagnosis> {
  const about = {
    version: packageVersion(),
    node: process.versions.node,
    platform: platformName(),
    glibc: glibcVersion() ?? null,
    parallel: diagnoseParallel(),
  }
  try {
    const { path, origin } = loadBinding()
    const addon = { path, origin, reason: originReason(origin) }
    return { ...about, addon, cpu: await diagnoseCpu(), cuda: diagnoseCuda() }
  } catch (error) {
    return { ...about, addon: { error: (error as Error).message }, cpu: null, cuda: null }
  }
}

function originReason(origin: AddonFile['origin']): string {
  const binaries = prebuilds(packageRoot())
  const own = binaries.some(file => file.startsWith(`${process.platform}-${process.arch}/`))
  // A checkout has no binaries as a rule, which says nothing about the platform.
  const missing = binaries.length > 0 ? '; this package has no binary for the platform' : ''
  const binary = own ? "; used instead of the package's binary" : missing
  const reasons: Record<AddonFile['origin'], string> = {
    environment: `${namingVariable()} names it`,
    'local build': `built on this machine${binary}`,
    prebuild: "the package's binary for this platform",
    'beside node': `found next to the node program${binary}`,
  }
  return reasons[origin]
}

async function diagnoseCpu(): Promise<CpuDiagnosis> {
  const { Device, fastestIsa, processor } = loadBinding()
  const { isas, cgroupThreads } = processor()
  const device = new Device('cpu')
  const { isa, threads, model } = device.info()
  device.close()
  return {
    model,
    isa,
    quantisedIsa: fastestIsa('int8'),
    availableIsas: isas,
    threads,
    threadsReason: threadsReason(threads, cgroupThreads),
    memoryBytes: totalmem(),
    readBytesPerSecond: await readBandwidthOf(threads)(),
  }
}

function threadsReason(threads: number, cgroupThreads: number): string {
  const processors = cpus().length
  if (threads >= processors) return `all ${processors} processors`
  if (threads === cgroupThreads)
    return `the control group allows ${threads} of ${processors} processors`
  return `the process may run on ${threads} of ${processors} processors`
}

/**
 * The addon's and the driver's state, and the device that loadModel would take: it is opened, and
 * closed again.
 */
function diagnoseCuda(): CudaDiagnosis {
  const { built, runtimeVersion, driverVersion } = loadBinding().cuda()
  const { driver, gpus } = systemGpus()
  const found = findGpu()
  const about = {
    built,
    runtimeVersion: cudaVersion(runtimeVersion),
    driver,
    driverCuda: cudaVersion(driverVersion),
    gpus,
  }
  if ('reason' in found) return { ...about, used: null, reason: found.reason, debug: [] }
  const { name, model, isa, freeBytes, totalBytes, debug } = found.device.info()
  found.device.close()
  const gib = (bytes: number) => (bytes / 2 ** 30).toFixed(1)
  const reason = `${model}, ${isa}, ${gib(freeBytes)} of ${gib(totalBytes)} GiB free`
  return { ...about, used: name, reason, debug }
}

/** 13010 is '13.1'; 0 is none. */
function cudaVersion(version: number): string | null {
  return version === 0 ? null : `${Math.floor(version / 1000)}.${Math.floor((version % 1000) / 10)}`
}

/**
 * From the files that NVIDIA's kernel driver shows: they are there even when the addon has no use
 * for them.
 */
function systemGpus(root = '/proc/driver/nvidia'): { driver: string | null; gpus: string[] } {
  const driver =
    /Kernel Module.*?\s(\d+\.[\d.]+)\s/.exec(readOrEmpty(join(root, 'version')))?.[1] ?? null
  return { driver, gpus: driver === null ? [] : gpuModels(join(root, 'gpus')) }
}

function gpuModels(folder: string): string[] {
  try {
    return readdirSync(folder).map(gpu => {
      const information = readOrEmpty(join(folder, gpu, 'information'))
      return /^Model:\s*(.+)$/m.exec(information)?.[1]?.trim() ?? gpu
    })
  } catch {
    return []
  }
}

function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
