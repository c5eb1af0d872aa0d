/** The libraries that join processes, for `moepp doctor`. */
import { loadBinding } from '../addon/binding.js'
import { MPI_NAMES, mpiLibraries } from '../parallel/mpi.js'

export interface ParallelDiagnosis {
  /** Libraries of `moepp build-mpi`, the newest first: `Open MPI 5.0.7`. */
  readonly mpi: readonly { readonly name: string; readonly path: string }[]
  /** Version of NVIDIA's NCCL, or null where none is found. */
  readonly nccl: string | null
  /** The reason against it. */
  readonly ncclProblem: string | null
}

export function diagnoseParallel(env = process.env): ParallelDiagnosis {
  const mpi = mpiLibraries(env).map(({ family, version, path }) => ({
    name: `${MPI_NAMES[family]} ${version}`,
    path,
  }))
  return { mpi, ...findNccl() }
}

function findNccl(): Pick<ParallelDiagnosis, 'nccl' | 'ncclProblem'> {
  try {
    const version = loadBinding().ncclVersion()
    const numbers = [Math.floor(version / 10000), Math.floor(version / 100) % 100, version % 100]
    return { nccl: numbers.join('.'), ncclProblem: null }
  } catch (error) {
    return { nccl: null, ncclProblem: (error as Error).message }
  }
}

export function describeParallel({ mpi, nccl, ncclProblem }: ParallelDiagnosis): string[][] {
  const none = 'no library; moepp build-mpi makes it, for --expert-parallel'
  const found = mpi.map(({ name, path }, i) => [i === 0 ? 'MPI' : '', `${name}: ${path}`])
  return [...(found.length > 0 ? found : [['MPI', none]]), ['NCCL', nccl ?? ncclProblem ?? '']]
}
