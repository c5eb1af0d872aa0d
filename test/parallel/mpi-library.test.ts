/** The library of an MPI: found by the mpirun that started the process, or asked for. */
import { mkdirSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { type LoadOptions, resolveLoadOptions } from '../../lib/options/load.js'
import { buildMpi } from '../../lib/parallel/build-mpi.js'
import { mpiFileName, mpiLauncher, mpiLibraries, mpiLibrary } from '../../lib/parallel/mpi.js'
import { runHere } from '../cli/run-here.js'

const open = { OMPI_COMM_WORLD_SIZE: '4', OMPI_COMM_WORLD_RANK: '3' }
const mpich = { PMI_SIZE: '2', PMI_RANK: '0' }

t.test('the mpirun that started the process', async t => {
  t.same(mpiLauncher(open), { family: 'openmpi', rank: 3, ranks: 4 })
  t.same(mpiLauncher(mpich), { family: 'mpich', rank: 0, ranks: 2 })
  t.equal(mpiLauncher({}), undefined)
})

t.test('the library that fits', async t => {
  const XDG_CACHE_HOME = t.testdir()
  const folder = join(XDG_CACHE_HOME, 'moepp')
  const none = /expected one in .*moepp, got none\. Run `npx moepp build-mpi`/
  t.throws(() => mpiLibrary({ XDG_CACHE_HOME }), { code: 'ERR_UNSUPPORTED', message: none })
  mkdirSync(folder)
  const write = (name: string, age: number) => {
    writeFileSync(join(folder, name), '')
    utimesSync(join(folder, name), 1000 - age, 1000 - age)
    return join(folder, name)
  }
  const older = write(mpiFileName({ family: 'openmpi', version: '4.1.4' }), 3)
  const newer = write(mpiFileName({ family: 'openmpi', version: '5.0.7' }), 2)
  write('mpi-0-x64-mpich-4.2.1.so', 0)
  write('other.so', 0)
  t.same(
    mpiLibraries({ XDG_CACHE_HOME }).map(({ path }) => path),
    [newer, older],
  )
  t.equal(mpiLibrary({ XDG_CACHE_HOME }), newer)
  t.equal(mpiLibrary({ XDG_CACHE_HOME, ...open }), newer)
  t.throws(() => mpiLibrary({ XDG_CACHE_HOME, ...mpich }), {
    code: 'ERR_UNSUPPORTED',
    message: /the MPICH of this machine: .* got Open MPI 5\.0\.7, Open MPI 4\.1\.4/,
  })
  const own = write(mpiFileName({ family: 'mpich', version: '4.2.1' }), 9)
  t.equal(mpiLibrary({ XDG_CACHE_HOME, ...mpich }), own)
  t.equal(mpiLibrary({ XDG_CACHE_HOME, MOEPP_MPI: '/x.so' }), '/x.so')
})

t.test('moepp build-mpi without an MPI', async t => {
  const env = { XDG_CACHE_HOME: t.testdir() }
  await t.rejects(buildMpi('/no/such/mpicc', env), {
    code: 'ERR_UNSUPPORTED',
    message: /^\/no\/such\/mpicc: there is no such program; install an MPI/,
  })
  await t.rejects(buildMpi('false', env), {
    code: 'ERR_UNSUPPORTED',
    message: /^false: cannot compile: /,
  })
  await t.rejects(buildMpi('echo', env), {
    code: 'ERR_UNSUPPORTED',
    message: 'mpi.h: it names no version, expected the header of an MPI',
  })
  t.same(mpiLibraries(env), [])
  const file = join(env.XDG_CACHE_HOME, 'file')
  writeFileSync(file, '')
  await t.rejects(buildMpi('false', { XDG_CACHE_HOME: file }), { code: 'ERR_CANNOT_WRITE' })
  const { code, stderr } = await runHere(['build-mpi', '--mpicc', '/no/such/mpicc'])
  t.equal(code, 1)
  t.match(stderr, /ERR_UNSUPPORTED: \/no\/such\/mpicc: there is no such program/)
})

t.test('devices of ranks', async t => {
  const resolved = (options: LoadOptions) => resolveLoadOptions(options).device
  t.equal(resolved({ parallel: 'mpi' }), 'cpu')
  t.equal(resolved({ parallel: 'nccl' }), 'auto')
  t.equal(resolved({ parallel: 'nccl', device: 'cuda' }), 'auto')
  t.equal(resolved({ parallel: 'nccl', device: 'cuda:1' }), 'cuda:1')
  const refused: [LoadOptions, RegExp][] = [
    [{ parallel: 'mpi', device: 'cuda' }, /'mpi' runs on the CPU; .*, got "cuda:0"/],
    [{ parallel: 'nccl', device: 'cpu' }, /'nccl' runs on GPUs; .*, got "cpu"/],
    [{ parallel: 'nccl', isa: 'scalar' }, /'nccl' runs on GPUs; .*, got "scalar"/],
  ]
  for (const [options, message] of refused)
    t.throws(() => resolveLoadOptions(options), { code: 'ERR_UNSUPPORTED', message })
})

t.test('options that do not fit together', async t => {
  const generate = (...args: string[]) => runHere(['generate', '--model', '/no/such', ...args])
  const placement = await generate('--placement', 'x.json')
  t.equal(placement.code, 2)
  t.match(placement.stderr, /--placement: expected with the option parallel/)
  const cpu = await generate('--expert-parallel', '--device', 'cuda', '--isa', 'scalar')
  t.equal(cpu.code, 2)
  t.match(cpu.stderr, /--isa: applies to the CPU only/)
  const deadline = await generate('--expert-parallel', '--parallel-deadline-ms', '5')
  t.equal(deadline.code, 2)
  t.match(deadline.stderr, /--parallel-deadline-ms: expected an integer from 100/)
})
