/** What moepp runs on, and why: the version, the addon, the processor, the GPU driver. */

import { readdirSync, readFileSync } from 'node:fs'
import { cpus, totalmem } from 'node:os'
import { join } from 'node:path'
import { type AddonFile, packageRoot, platformName, prebuilds } from './addon-file.js'
import { loadBinding } from './binding.js'

export interface CpuDiagnosis {
  readonly model: string
  /** In use. */
  readonly isa: string
  /** Those of this build that the processor can run, best first. */
  readonly availableIsas: readonly string[]
  readonly threads: number
  /** Why it is so many. */
  readonly threadsReason: string
  readonly memoryBytes: number
  /** Measured with all threads. */
  readonly readBytesPerSecond: number
}

export interface AddonDiagnosis extends AddonFile {
  /** Why this file. */
  readonly reason: string
}

export interface CudaDiagnosis {
  readonly used: boolean
  readonly reason: string
  /** NVIDIA driver's version, if there is one. */
  readonly driver: string | null
  readonly gpus: readonly string[]
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
  readonly cuda: CudaDiagnosis
}

export function packageVersion(): string {
  return JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')).version
}

/** Never throws because of what it finds: an addon that cannot be loaded is a finding. */
export async function diagnose(): Promise<Diagnosis> {
  const about = {
    version: packageVersion(),
    node: process.versions.node,
    platform: platformName(),
    glibc: glibcVersion(),
    cuda: diagnoseCuda(),
  }
  try {
    const { path, origin } = loadBinding()
    return { ...about, addon: { path, origin, reason: originReason(origin) }, cpu: await diagnoseCpu() }
  } catch (error) {
    return { ...about, addon: { error: (error as Error).message }, cpu: null }
  }
}

function originReason(origin: AddonFile['origin']): string {
  const own = prebuilds(packageRoot()).some(file => file.startsWith(`${process.platform}-${process.arch}/`))
  const binary = own ? "goes before the package's binary" : 'this package has no binary for the platform'
  if (origin === 'environment') return 'MOEPP_BINDING names it'
  return origin === 'local build'
    ? `built on this machine; ${binary}`
    : "the package's binary for this platform"
}

function glibcVersion(): string | null {
  const { header } = process.report.getReport() as { header?: { glibcVersionRuntime?: string } }
  return header?.glibcVersionRuntime ?? null
}

async function diagnoseCpu(): Promise<CpuDiagnosis> {
  const { Device, processor, readBandwidth } = loadBinding()
  const { isas, cgroupThreads } = processor()
  const device = new Device('cpu')
  const { isa, threads, model } = device.info()
  device.close()
  return {
    model,
    isa,
    availableIsas: isas,
    threads,
    threadsReason: threadsReason(threads, cgroupThreads),
    memoryBytes: totalmem(),
    readBytesPerSecond: await readBandwidth(threads),
  }
}

function threadsReason(threads: number, cgroupThreads: number): string {
  const processors = cpus().length
  if (threads >= processors) return `all ${processors} processors`
  if (threads === cgroupThreads) return `the control group allows ${threads} of ${processors} processors`
  return `the process may run on ${threads} of ${processors} processors`
}

/** From the files that NVIDIA's kernel driver shows: nothing is loaded or started. */
function diagnoseCuda(root = '/proc/driver/nvidia'): CudaDiagnosis {
  const driver = /Kernel Module.*?\s(\d+\.[\d.]+)\s/.exec(readOrEmpty(join(root, 'version')))?.[1] ?? null
  const gpus = driver === null ? [] : gpuModels(join(root, 'gpus'))
  const noCuda = 'this build has no CUDA device'
  const reason =
    driver === null
      ? `${noCuda}, and this machine no NVIDIA driver; models run on the CPU`
      : `${noCuda}: models run on the CPU, though the NVIDIA driver ${driver} is there`
  return { used: false, reason, driver, gpus }
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
