/** The MPIs of this machine, with the library that each needs, and programs under their mpirun. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { buildMpi } from '../../lib/parallel/build-mpi.js'

export interface Mpi {
  readonly name: string
  readonly mpirun: string
  readonly mpicc: string
  readonly args: readonly string[]
  /** Ranks go on when one dies, so that they notice it themselves. */
  readonly survive: readonly string[]
}

const KNOWN: readonly Mpi[] = [
  {
    name: 'Open MPI',
    mpirun: 'mpirun.openmpi',
    mpicc: 'mpicc.openmpi',
    args: ['--oversubscribe', '--mca', 'btl', 'self,sm'],
    survive: ['--enable-recovery'],
  },
  {
    name: 'MPICH',
    mpirun: 'mpirun.mpich',
    mpicc: 'mpicc.mpich',
    args: [],
    survive: ['-disable-auto-cleanup'],
  },
]

const folder = mkdtempSync(join(tmpdir(), 'moepp-mpi-'))
t.teardown(() => rmSync(folder, { recursive: true, force: true }))

export const env: NodeJS.ProcessEnv = {
  ...process.env,
  XDG_CACHE_HOME: folder,
  // Not tap's, which would act on signals.
  NODE_OPTIONS: '',
  OMPI_ALLOW_RUN_AS_ROOT: '1',
  OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: '1',
}

function isThere(program: string): boolean {
  try {
    execFileSync(program, ['--version'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

/** Those that are there, each with its library. A test of one that is not there is skipped. */
export async function eachMpi(test: (mpi: Mpi) => void): Promise<void> {
  const found = KNOWN.filter(mpi => isThere(mpi.mpirun) && isThere(mpi.mpicc))
  // Before the first test: all is torn down when none is left.
  for (const mpi of found) await buildMpi(mpi.mpicc, env)
  for (const mpi of KNOWN) {
    if (found.includes(mpi)) test(mpi)
    else t.test(mpi.name, { skip: `no ${mpi.mpirun} with ${mpi.mpicc} here` }, async () => {})
  }
}

export interface Started {
  readonly child: ChildProcess
  readonly ended: Promise<{ code: number | null; stdout: string; stderr: string }>
}

/** `ranks` processes of node with `args`, and with variables beside `env`. */
export function start(
  mpi: Mpi,
  ranks: number,
  args: readonly string[],
  survive = false,
  variables: NodeJS.ProcessEnv = {},
): Started {
  const options = survive ? [...mpi.args, ...mpi.survive] : mpi.args
  const all = [...options, '-n', String(ranks), process.execPath, ...args]
  const child = spawn(mpi.mpirun, all, {
    env: { ...env, ...variables },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  t.teardown(() => child.kill('SIGKILL'))
  const code = new Promise<number | null>(resolve => child.on('close', resolve))
  const ended = Promise.all([code, text(child.stdout), text(child.stderr)]).then(
    ([code, stdout, stderr]) => ({ code, stdout, stderr }),
  )
  return { child, ended }
}
