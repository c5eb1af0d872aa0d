/**
 * Ranks under real mpirun, of Open MPI and MPICH if they are installed. They exchange mail, run
 * steps, and end in every way. Nothing waits longer than the deadline, and nothing stays behind.
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { loadBinding } from '../../lib/addon/binding.js'
import { root } from '../support/golden.js'
import { runRoutedSteps } from './routed-program.js'

const rankFile = join(dirname(fileURLToPath(import.meta.url)), 'mpi-rank.js')
const DEADLINE_MS = 2000

interface Mpi {
  readonly name: string
  readonly compiler: string
  readonly run: readonly string[]
  /** Of its mpirun: ranks go on when one dies, so that they notice it themselves. */
  readonly survive: readonly string[]
}

/** Debian's names; elsewhere mpicc belongs to the one MPI that there is. */
function installed(): Mpi[] {
  const has = (command: string) => spawnSync(command, ['--version']).status === 0
  const open = {
    name: 'openmpi',
    run: ['--allow-run-as-root', '--oversubscribe', '--mca', 'btl', 'self,sm'],
    survive: ['--enable-recovery'],
  }
  const mpich = { name: 'mpich', run: [], survive: ['-disable-auto-cleanup'] }
  const found: Mpi[] = []
  for (const { run, ...mpi } of [open, mpich])
    if (has(`mpicc.${mpi.name}`) && has(`mpirun.${mpi.name}`))
      found.push({ ...mpi, compiler: `mpicc.${mpi.name}`, run: [`mpirun.${mpi.name}`, ...run] })
  if (found.length > 0 || !has('mpicc') || !has('mpirun')) return found
  const version = execFileSync('mpirun', ['--version'], { encoding: 'utf8' })
  const { run, ...mpi } = version.includes('Open MPI') ? open : mpich
  return [{ ...mpi, compiler: 'mpicc', run: ['mpirun', ...run] }]
}

interface Ended {
  readonly rank: number
  readonly size?: number
  readonly results?: string
  readonly code?: string
  readonly message?: string
}

interface Job {
  readonly status: number | null
  /** By rank; a rank that was killed says nothing. */
  readonly ended: readonly Ended[]
  readonly output: string
}

/** Runs `ranks` ranks in that mode; a job that takes too long is killed, and has no status. */
/** mpirun kills ranks and does not wait for their end: processes that are there 10 s later. */
async function leftBehind(): Promise<string> {
  const now = () => spawnSync('pgrep', ['-f', rankFile], { encoding: 'utf8' }).stdout.trim()
  for (let i = 0; i < 100 && now() !== ''; i++) await pause(100)
  return now()
}

async function run(
  mpi: Mpi,
  library: string,
  ranks: number,
  mode: string,
  survive = false,
): Promise<Job> {
  const [command, ...options] = [...mpi.run, ...(survive ? mpi.survive : [])]
  const folder = mkdtempSync(join(dirname(library), `${mode}-`))
  const program = [process.execPath, rankFile, library, String(DEADLINE_MS), mode, folder]
  const child = spawn(command!, [...options, '-n', String(ranks), ...program], { cwd: root })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8')
    stream.on('data', (text: string) => {
      output += text
    })
  }
  const timer = setTimeout(() => child.kill(), 150_000)
  const status = await new Promise<number | null>(resolve => child.on('close', resolve))
  clearTimeout(timer)
  const left = await leftBehind()
  const ended = readdirSync(folder)
    .map(file => JSON.parse(readFileSync(join(folder, file), 'utf8')) as Ended)
    .sort((a, b) => a.rank - b.rank)
  return { status, ended, output: left === '' ? output : `${output}\nleft behind: ${left}` }
}

const all = installed()
if (all.length === 0) t.comment('no MPI is installed here: its tests do not run')
for (const mpi of all) {
  t.test(mpi.name, async t => {
    const folder = mkdtempSync(join(tmpdir(), 'moepp-mpi-'))
    t.teardown(() => rmSync(folder, { recursive: true, force: true }))
    const library = join(folder, 'libmoepp_mpi.so')
    const shim = join(root, 'native', 'parallel', 'mpi_shim.c')
    const flags = ['-Wall', '-Wextra', '-Werror', '-shared', '-fPIC', '-O2']
    execFileSync(mpi.compiler, [...flags, '-o', library, shim])

    for (const ranks of [1, 2, 3, 4]) {
      t.test(`mail and steps of ${ranks}`, async t => {
        const { status, ended, output } = await run(mpi, library, ranks, 'steps')
        t.equal(status, 0, output)
        t.notMatch(output, 'left behind')
        const groups = loadBinding().localGroups(ranks, 60_000)
        const results = await Promise.all(groups.map(runRoutedSteps))
        t.strictSame(
          ended,
          results.map((results, rank) => ({ rank, size: ranks, results })),
        )
      })
    }

    /** Every rank but the last, which is at fault, ends so. */
    const expectFailures = (t: Test, job: Job, words: RegExp) => {
      t.ok(job.status, `mpirun fails: ${job.output}`)
      t.notMatch(job.output, 'left behind')
      const others = job.ended.filter(({ rank }) => rank < 2)
      t.equal(others.length, 2, job.output)
      for (const { code, message } of others) {
        t.equal(code, 'ERR_PARALLEL')
        t.match(message, words)
      }
    }

    // To the ranks that are left MPICH's mpirun sends SIGUSR1. Node opens its inspector then, and
    // may end by that.
    const skip = mpi.name === 'mpich' && 'its mpirun disturbs the ranks that are left'
    for (const mode of ['throw', 'abort', 'exit']) {
      t.test(`a rank that ends by ${mode} says so`, { skip }, async t => {
        const reason = mode === 'exit' ? 'its process ends' : 'a fault of a test'
        const said = mode === 'throw' ? 'its process ends|it went without closing' : reason
        const job = await run(mpi, library, 3, mode, true)
        expectFailures(t, job, new RegExp(`mail 30: rank 2 failed: (${said})`))
      })
    }
    t.test('a rank in another exchange', { skip }, async t => {
      const job = await run(mpi, library, 3, 'other', true)
      expectFailures(t, job, /mail 30|close 30/)
    })
    t.test('a rank that hangs', async t => {
      const job = await run(mpi, library, 3, 'hang')
      expectFailures(t, job, /mail 30: .*no message from rank 2 within 2000 ms/)
    })
    t.test('a rank that is killed, under mpirun', async t => {
      const job = await run(mpi, library, 3, 'kill')
      t.ok(job.status, job.output)
      t.notMatch(job.output, 'left behind')
    })
    t.test('a rank that is killed, noticed by the others', { skip }, async t => {
      const job = await run(mpi, library, 3, 'kill', true)
      expectFailures(t, job, /mail 30: .*no message from rank 2 within 2000 ms/)
    })
  })
}
