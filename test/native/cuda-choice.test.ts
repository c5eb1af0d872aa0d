/** cmake/cuda.cmake's choice, with a compiler that says of itself what it is told to. */
import { spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import t, { type Test } from 'tap'
import { root } from '../support/golden.js'

const skip = process.platform === 'win32' && 'the stand-in for nvcc is a shell script'

/** CMake's words in a project of this file alone, with an nvcc that prints `version`. */
function configure(
  t: Test,
  cuda: string,
  version: string,
): { status: number | null; text: string } {
  const folder = t.testdir()
  const nvcc = join(folder, 'bin', 'nvcc')
  mkdirSync(dirname(nvcc))
  writeFileSync(nvcc, `#!/bin/sh\necho '${version}'\n`)
  chmodSync(nvcc, 0o755)
  writeFileSync(
    join(folder, 'CMakeLists.txt'),
    `cmake_minimum_required(VERSION 3.24)
project(choice NONE)
include(${join(root, 'cmake', 'cuda.cmake')})
message(STATUS "have \${moepp_have_cuda}")
`,
  )
  const { status, stdout, stderr } = spawnSync(
    'cmake',
    ['-S', folder, '-B', join(folder, 'build'), `-DMOEPP_CUDA=${cuda}`],
    { encoding: 'utf8', env: { ...process.env, CUDACXX: nvcc } },
  )
  return { status, text: (stdout + stderr).replace(/\s+/g, ' ') }
}

t.test('an nvcc of CUDA 13 or newer makes a build with the CUDA kernels', { skip }, async t => {
  for (const release of ['13.0', '14.2']) {
    const { status, text } = configure(
      t,
      'AUTO',
      `Cuda compilation tools, release ${release}, V${release}.1`,
    )
    t.equal(status, 0, text)
    t.match(text, /moepp: a build with the CUDA kernels.* have ON/)
  }
})

t.test(
  'an older one, or what is none, makes a CPU build, or an error where CUDA was asked for',
  { skip },
  async t => {
    const faults: [string, RegExp][] = [
      [
        'Cuda compilation tools, release 12.9, V12.9.41',
        /nvcc is CUDA 12\.9, and the kernels need 13\.0/,
      ],
      ['no compiler', /nvcc --version names no release/],
    ]
    for (const [version, fault] of faults) {
      const auto = configure(t, 'AUTO', version)
      t.equal(auto.status, 0, auto.text)
      t.match(auto.text, /moepp: a CPU build.* have OFF/)
      t.match(auto.text, fault)
      const on = configure(t, 'ON', version)
      t.not(on.status, 0)
      t.match(on.text, fault)
    }
  },
)
