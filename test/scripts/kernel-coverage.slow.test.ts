/** scripts/kernel-coverage.mjs names the kernels that the emulated tests did not launch. */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import t from 'tap'
import { root } from '../support/golden.js'

const script = join(root, 'scripts', 'kernel-coverage.mjs')
const { kernelsDefined } = (await import(pathToFileURL(script).href)) as {
  kernelsDefined(source: string): string[]
}
const program = join(root, 'build', 'cmake', 'native', 'test', 'simt', 'moepp-simt-test')

t.test('a kernel that was launched is not named, any other is', async t => {
  const file = join(t.testdir(), 'launched')
  const run = spawnSync(program, ['simt_combine'], {
    encoding: 'utf8',
    env: { ...process.env, MOEPP_LAUNCHED_KERNELS: file },
  })
  t.equal(run.status, 0, run.stdout + run.stderr)
  const check = spawnSync(process.execPath, [script, file, program], { encoding: 'utf8' })
  t.equal(check.status, 1)
  t.notMatch(check.stderr, 'combine_rows')
  t.match(check.stderr, /never launched .*moepp::cuda::.*multiply_wgmma<.*Bf16<256, 2>/)
  t.match(check.stderr, /never launched .*moepp::cuda::.*multiply_wgmma<.*Bf16<192, 1>/)
  t.match(check.stderr, /never launched .*moepp::bench::ceiling::copy_all/)
  const lines = check.stderr.match(/never launched/g)!.length
  const [, launched, all] = /(\d+) of (\d+) kernels/.exec(check.stdout)!.map(Number)
  t.ok(launched! > 0 && launched! + lines === all, check.stdout)
})

t.test('a program that launched none is no success', async t => {
  const file = join(t.testdir(), 'launched')
  const check = spawnSync(process.execPath, [script, file, program], { encoding: 'utf8' })
  t.not(check.status, 0)
  t.match(check.stderr, 'launched no kernel')
})

t.test('the kernels of a source', async t => {
  t.same(
    kernelsDefined(`
// __global__ in a comment
__global__ void plain(int* p) {}
static __global__ void __launch_bounds__(C::kThreads * (1 + 1), 2) bounded(int n) {}
template <class C>
__global__ void __launch_bounds__(kThreads)
    wrapped(const int* in) {}
`),
    ['plain', 'bounded', 'wrapped'],
  )
  t.throws(() => kernelsDefined('__global__ auto odd() -> void {}'), /1 __global__, but/)
})
