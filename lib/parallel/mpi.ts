/**
 * The MPI that joins the ranks: a small library that `moepp build-mpi` compiles against the MPI of
 * this machine, and that the addon loads.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { packageRoot } from '../addon/addon-file.js'
import { fromNative, loadBinding, type NativeGroup } from '../addon/binding.js'
import { MoeppError } from '../errors.js'

export type MpiFamily = 'openmpi' | 'mpich' | 'mpi'

export interface MpiLibrary {
  readonly path: string
  readonly family: MpiFamily
  readonly version: string
}

/** The names that people use. */
export const MPI_NAMES: Readonly<Record<MpiFamily, string>> = {
  openmpi: 'Open MPI',
  mpich: 'MPICH',
  mpi: 'MPI',
}

/** The folder of compiled libraries: of this user, in the system's place for caches. */
export function mpiFolder(env = process.env): string {
  const caches: Partial<Record<NodeJS.Platform, string | undefined>> = {
    darwin: join(homedir(), 'Library', 'Caches'),
    win32: env.LOCALAPPDATA,
  }
  return join(env.XDG_CACHE_HOME || caches[process.platform] || join(homedir(), '.cache'), 'moepp')
}

/** The sources of the library. */
export function mpiSource(): { readonly source: string; readonly abi: number } {
  const folder = join(packageRoot(), 'native', 'parallel')
  const header = readFileSync(join(folder, 'mpi_shim.h'), 'utf8')
  const [, abi] = /#define MOEPP_MPI_ABI (\d+)/.exec(header)!
  return { source: join(folder, 'mpi_shim.c'), abi: Number(abi) }
}

/** The file's name has all that it fits. */
export function mpiFileName({ family, version }: Omit<MpiLibrary, 'path'>): string {
  return `mpi-${mpiSource().abi}-${process.arch}-${family}-${version}.so`
}

/** Those that this version of moepp can load, the newest first. */
export function mpiLibraries(env = process.env): MpiLibrary[] {
  const folder = mpiFolder(env)
  const own = `mpi-${mpiSource().abi}-${process.arch}-`
  return namesIn(folder).flatMap(name => {
    const [, family, version] = /^(openmpi|mpich|mpi)-([\w.]+)\.so$/.exec(
      name.startsWith(own) ? name.slice(own.length) : '',
    ) ?? [undefined, undefined, undefined]
    if (!family || !version) return []
    return [{ path: join(folder, name), family: family as MpiFamily, version }]
  })
}

function namesIn(folder: string): string[] {
  const age = (name: string) => statSync(join(folder, name)).mtimeMs
  try {
    return readdirSync(folder).sort((a, b) => age(b) - age(a))
  } catch {
    return []
  }
}

/** The mpirun that has started this process, if its variables tell. */
export function mpiLauncher(
  env = process.env,
): { readonly family: MpiFamily; readonly rank: number; readonly ranks: number } | undefined {
  const { OMPI_COMM_WORLD_SIZE: open, PMI_SIZE: mpich } = env
  if (open)
    return { family: 'openmpi', rank: Number(env.OMPI_COMM_WORLD_RANK), ranks: Number(open) }
  if (mpich) return { family: 'mpich', rank: Number(env.PMI_RANK), ranks: Number(mpich) }
  return undefined
}

/**
 * The library that fits the mpirun of this process; MOEPP_MPI names another.
 * @throws MoeppError ERR_UNSUPPORTED with the command to run
 */
export function mpiLibrary(env = process.env): string {
  if (env.MOEPP_MPI) return env.MOEPP_MPI
  const built = mpiLibraries(env)
  const launcher = mpiLauncher(env)
  const fitting = built.find(({ family }) => !launcher || family === launcher.family)
  if (fitting) return fitting.path
  const wanted = launcher ? MPI_NAMES[launcher.family] : 'MPI'
  const got = built.map(({ family, version }) => `${MPI_NAMES[family]} ${version}`).join(', ')
  throw new MoeppError(
    'ERR_UNSUPPORTED',
    `the option parallel needs a library that is compiled against the ${wanted} of this machine: expected one in ` +
      `${mpiFolder(env)}, got ${got || 'none'}. Run \`npx moepp build-mpi\` with its mpicc first`,
  )
}

/**
 * The group of all processes that mpirun has started.
 * @throws MoeppError ERR_UNSUPPORTED, ERR_PARALLEL
 */
export function openMpi(deadlineMs: number, env = process.env): NativeGroup {
  const library = mpiLibrary(env)
  try {
    const group = loadBinding().openGroup({ kind: 'mpi', library, deadlineMs })
    const ranks = mpiLauncher(env)?.ranks ?? group.size
    if (ranks === group.size) return group
    throw new MoeppError(
      'ERR_PARALLEL',
      `mpirun has started ${ranks} ranks, but ${library} finds ${group.size}: it was compiled against another MPI. ` +
        "Run `npx moepp build-mpi` with that mpirun's mpicc",
    )
  } catch (error) {
    throw fromNative(error)
  }
}
