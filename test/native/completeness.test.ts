/**
 * An op is six edits (CONTRIBUTING.md, "Adding an op"): a line in the list, four files of its name,
 * and a function that records it. A fused op has a place in the compiler instead of that, and the
 * CPU may lack it. For every line of the list the build takes a kernel of each device. The programs
 * tell which tests and benches they have.
 */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import t from 'tap'
import * as moeOps from '../../lib/program/moe-ops.js'
import * as plainOps from '../../lib/program/ops.js'
import { root } from '../support/golden.js'

const { programs } = await import(join(root, 'scripts', 'build-native.mjs' as string))
const list = readFileSync(join(root, 'native/ops.h'), 'utf8')
const ops = [...list.matchAll(/^ {2}(FUSED_)?OP\((\w+), \w+\)/gm)].map(([, fused, name]) => ({
  name: name!,
  fused: fused !== undefined,
}))
t.ok(ops.length >= 13 && ops.some(({ fused }) => fused), 'the list was read')

const lines = (command: string, ...args: string[]) =>
  execFileSync(command, args, { cwd: root, encoding: 'utf8' }).trim().split('\n')
// Of this checkout, committed or not.
const files = lines('git', 'ls-files', '--cached', '--others', '--exclude-standard', 'native')
const tests = new Set(lines(programs.native, 'test', '--cpu', '--list'))
const benches = lines(programs.native, 'bench', '--list')
const recorders = [...Object.keys(plainOps), ...Object.keys(moeOps)]

for (const { name, fused } of ops) {
  t.test(name, async t => {
    // A folder of its name has the parts of a large kernel.
    const own = files.filter(
      file => basename(file).split('.')[0] === name && basename(dirname(file)) !== name,
    )
    const ofCpu = `native/cpu/kernels/${name}.inl.h`
    t.strictSame(own.sort(), [
      ...(fused && !own.includes(ofCpu) ? [] : [ofCpu]),
      `native/cuda/kernels/${name}.cu`,
      `native/ops/${name}.h`,
      `native/test/ops/${name}.cc`,
    ])
    t.ok(tests.has(name), 'a test over its cases')
    t.ok(
      benches.some(bench => bench === name || bench.startsWith(`${name}_`)),
      'a bench',
    )
    const recorder = name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase())
    const recorded = recorders.filter(each => each === recorder).length
    t.equal(recorded, fused ? 0 : 1, fused ? 'no program records it' : 'a program records it')
  })
}
