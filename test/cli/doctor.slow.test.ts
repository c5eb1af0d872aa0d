import { existsSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { packageVersion } from '../../lib/addon/addon-file.js'
import { root } from '../support/golden.js'
import { runCli } from './run-cli.js'

t.test('doctor --json', async t => {
  const { code, stdout, stderr } = await runCli(['doctor', '--json'])
  t.equal(code, 0)
  t.equal(stderr, '')
  const { version, node, addon, cpu, cuda } = JSON.parse(stdout)
  t.equal(version, packageVersion())
  t.equal(node, process.versions.node)
  t.ok(existsSync(addon.path))
  t.equal(addon.origin, 'local build')
  t.equal(addon.reason, 'built on this machine', 'a checkout has no binary for any platform')
  t.ok(cpu.availableIsas.includes(cpu.isa))
  t.ok(cpu.availableIsas.includes(cpu.quantisedIsa))
  t.equal(cpu.availableIsas.at(-1), 'scalar')
  t.ok(cpu.threads >= 1)
  t.ok(cpu.readBytesPerSecond > 1e8, `${cpu.readBytesPerSecond} bytes per second`)
  t.equal(cuda.driver !== null, existsSync('/proc/driver/nvidia/version'))
  t.equal(cuda.runtimeVersion !== null, cuda.built)
  if (!cuda.built) t.match(cuda, { used: null, reason: /no CUDA device/ })
})

t.test('doctor for people', async t => {
  const { code, stdout } = await runCli(['doctor'])
  t.equal(code, 0)
  for (const row of [
    'platform',
    'addon',
    'processor',
    'instruction set',
    'threads',
    'memory',
    'NVIDIA driver',
    'CUDA',
  ]) {
    t.match(stdout, new RegExp(`^ {2}${row} {2,}\\S`, 'm'))
  }
})

t.test('an addon that cannot be loaded is a finding', async t => {
  const { code, stdout } = await runCli(['doctor'], {
    env: { MOEPP_BINDING: '/does/not/exist.node' },
  })
  t.equal(code, 1)
  t.match(stdout, /addon +.*could not be loaded: .*exist\.node.*MOEPP_BINDING names it/)
})

const emulatedAddon = join(root, 'build/cmake/Release/moepp_emulated.node')

t.test('what the GPU is good for, on settings of the emulated one', async t => {
  const doctor = async (gpu: string, debug = '') => {
    const env = {
      MOEPP_BINDING: emulatedAddon,
      MOEPP_EMULATED_GPU: gpu,
      MOEPP_CUDA_DEBUG: debug,
    }
    const { code, stdout } = await runCli(['doctor', '--json'], { env })
    t.equal(code, 0, gpu)
    return JSON.parse(stdout)
  }
  const { addon, cuda } = await doctor('')
  t.match(addon, { path: emulatedAddon, origin: 'environment', reason: /MOEPP_BINDING/ })
  t.match(cuda, { built: true, used: 'cuda:0', reason: /GiB free$/ })
  t.match((await doctor('no-driver')).cuda, {
    built: true,
    used: null,
    driverCuda: null,
    reason: /no NVIDIA driver/,
  })
  const old = await doctor('old-driver')
  t.match(old.cuda, { used: null, driverCuda: '12.4', reason: /needs CUDA 13/ })
  t.match((await doctor('hopper')).cuda, { reason: /, sm_90a, /, debug: [] })
  t.match((await doctor('hopper-as-ampere')).cuda, { reason: /, sm_80, / })
  t.same((await doctor('', 'no-pdl,sync')).cuda.debug, ['no-pdl', 'sync'])
  t.match((await doctor('', 'no-pdl,no-grap')).cuda, {
    used: null,
    reason: /MOEPP_CUDA_DEBUG holds no-grap, expected some of no-pdl, no-graph, .* sync/,
  })
})

t.test('MOEPP_CUDA_DEBUG is said aloud', async t => {
  const env = { MOEPP_BINDING: emulatedAddon, MOEPP_CUDA_DEBUG: 'no-split' }
  const { stdout } = await runCli(['doctor'], { env })
  t.match(stdout, /MOEPP_CUDA_DEBUG: no-split/)
})
