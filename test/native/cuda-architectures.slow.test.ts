/** cmake/cuda-architectures.cmake refuses lists that would leave kernels empty. */
import { spawnSync } from 'node:child_process'
import { chmodSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import t from 'tap'
import { root } from '../support/golden.js'

function cmake(args: string[], env = process.env) {
  const { status, stdout, stderr } = spawnSync('cmake', args, { encoding: 'utf8', env })
  return { status, text: (stdout + stderr).replace(/\s+/g, ' ').trim() }
}
const check = (list: string) =>
  cmake([
    `-DMOEPP_CUDA_ARCHITECTURES=${list}`,
    ...['-P', join(root, 'cmake', 'cuda-architectures.cmake')],
  ])

t.test('lists with code for every kernel', async t => {
  for (const list of ['90a-real', '90a', '75-real;80-virtual', '86', '100f', '120'])
    t.same(check(list), { status: 0, text: list })
  const { status, text } = cmake(['-P', join(root, 'cmake', 'cuda-architectures.cmake')])
  t.equal(status, 0)
  t.match(text, /^75-real;.*;90a-real;.*120$/)
})

t.test('other lists', async t => {
  const faults: [string, RegExp][] = [
    ['90', /90 leaves kernels empty, because wgmma is in 90a alone/],
    ['90-real', /90-real leaves kernels empty/],
    ['90-virtual', /90-virtual leaves kernels empty/],
    ['80-real;90;120', /: 90 leaves kernels empty/],
    ['native', /native may mean 90/],
    ['all', /all may mean 90/],
    ['all-major', /all-major may mean 90/],
    ['70-real', /70-real is too old: the oldest is 75/],
    ['', /it is empty/],
    ['75;;80', /'' is no architecture/],
    ['hopper', /'hopper' is no architecture/],
    ['sm_90a', /'sm_90a' is no architecture/],
    ['80 90a', /'80 90a' is no architecture/],
  ]
  for (const [list, fault] of faults) {
    const { status, text } = check(list)
    t.not(status, 0, list)
    t.ok(text.includes(`moepp: MOEPP_CUDA_ARCHITECTURES is "${list}"`), text)
    t.match(text, fault)
    t.match(text, /Write for example 90a-real/)
  }
})

const skip = process.platform === 'win32' && 'the stand-in for nvcc is a shell script'

t.test('a build with CUDA refuses such a list from the environment', { skip }, async t => {
  const { buildNative } = (await import(
    pathToFileURL(join(root, 'scripts', 'build-native.mjs')).href
  )) as { buildNative(options: object): Promise<void> }
  const folder = t.testdir()
  const nvcc = join(folder, 'nvcc')
  writeFileSync(nvcc, "#!/bin/sh\necho 'Cuda compilation tools, release 13.0, V13.0.1'\n")
  chmodSync(nvcc, 0o755)
  const before = process.env.MOEPP_CUDA_ARCHITECTURES
  process.env.MOEPP_CUDA_ARCHITECTURES = '75-real;90'
  t.teardown(() => {
    if (before === undefined) delete process.env.MOEPP_CUDA_ARCHITECTURES
    else process.env.MOEPP_CUDA_ARCHITECTURES = before
  })
  // The first command configures; it must fail before CMake asks nvcc for more than its release.
  let text = ''
  const execute = async (command: string, args: string[]) => {
    const env = { ...process.env, CUDACXX: nvcc, CUDA_PATH: '' }
    const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8', env })
    text = (stdout + stderr).replace(/\s+/g, ' ')
    if (status !== 0) throw new Error('configured in vain')
  }
  await t.rejects(
    buildNative({ cuda: 'ON', workFolder: join(folder, 'build'), outFolder: folder, execute }),
    /configured in vain/,
  )
  t.match(text, /MOEPP_CUDA_ARCHITECTURES is "75-real;90": 90 leaves kernels empty/)
})
