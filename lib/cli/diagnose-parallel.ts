/** The libraries that join processes, for `moepp doctor`. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { MPI_NAMES, mpiLibraries } from '../parallel/mpi.js'

export interface ParallelDiagnosis {
  /** Libraries of `moepp build-mpi`, the newest first: `Open MPI 5.0.7`. */
  readonly mpi: readonly { readonly name: string; readonly path: string }[]
  /** NVIDIA's NCCL, or null where none is found. */
  readonly nccl: string | null
}

export function diagnoseParallel(env = process.env): ParallelDiagnosis {
  const mpi = mpiLibraries(env).map(({ family, version, path }) => ({
    name: `${MPI_NAMES[family]} ${version}`,
    path,
  }))
  return { mpi, nccl: findNccl(env) }
}

/** In the places where the loader, and CUDA's packages, have it. */
function findNccl(env: NodeJS.ProcessEnv): string | null {
  const machine = process.arch === 'arm64' ? 'aarch64' : 'x86_64'
  const folders = [
    ...(env.LD_LIBRARY_PATH ?? '').split(':').filter(Boolean),
    `/usr/lib/${machine}-linux-gnu`,
    '/usr/lib64',
    '/usr/lib',
    '/usr/local/lib',
    '/usr/local/cuda/lib64',
  ]
  return folders.map(folder => join(folder, 'libnccl.so.2')).find(existsSync) ?? null
}

export function describeParallel({ mpi, nccl }: ParallelDiagnosis): string[][] {
  const none = 'no library; moepp build-mpi makes it, for --expert-parallel'
  const found = mpi.map(({ name, path }, i) => [i === 0 ? 'MPI' : '', `${name}: ${path}`])
  return [...(found.length > 0 ? found : [['MPI', none]]), ['NCCL', nccl ?? 'not found']]
}
