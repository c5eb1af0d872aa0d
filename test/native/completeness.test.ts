/**
 * Every op of the list has its kernels, a reference, tests on both devices and a bench row. It has
 * a builder function or, if it is fused, its place in the compiler.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { root } from '../support/golden.js'

const read = (path: string) => readFileSync(join(root, path), 'utf8')
const all = (folder: string, pattern: RegExp) =>
  readdirSync(join(root, folder))
    .filter(file => pattern.test(file))
    .map(file => read(join(folder, file)))
    .join('\n')

const ops = [...read('native/ops.h').matchAll(/^ {2}(FUSED_)?OP\((\w+), (\w+)\)/gm)].map(
  ([, fused, name, args]) => ({
    name: name!,
    args: args!,
    fused: fused !== undefined,
  }),
)

t.ok(ops.length >= 13, 'the list was read')
t.ok(
  ops.some(({ fused }) => fused),
  'with ops that the compiler makes',
)

const references = all('native/test', /^reference.*\.h$/)
const tests = all('native/test', /_test\.cc$/)
const cudaTests = all('native/test/simt', /_test\.cu$/)
const benches = all('bench/ops', /\.cc$/)
const builder = ['ops', 'moe-ops'].map(file => read(`lib/program/${file}.ts`)).join('\n')
const compiler = read('native/program/compiler.cc')

for (const { name, args, fused } of ops) {
  t.test(name, async t => {
    t.ok(existsSync(join(root, 'native/cpu/kernels', `${name}.inl.h`)), 'a CPU kernel')
    t.ok(existsSync(join(root, 'native/cuda/kernels', `${name}.cu`)), 'a CUDA kernel')
    t.match(read(`native/ops/${name}.h`), new RegExp(`^struct ${args} \\{`, 'm'), 'a contract')
    t.match(references, new RegExp(`\\b${args}\\b|\\b${name}\\b`), 'a reference')
    t.match(tests, new RegExp(`kernels(\\(\\))?(->|\\.)${name}\\(|\\b${args}\\b`), 'a native test')
    t.match(cudaTests, new RegExp(`\\bcuda::${name}\\b`), 'a test of the CUDA kernel')
    t.match(benches, new RegExp(`kernels\\(\\)\\.${name}\\(`), 'a bench row')
    if (fused) {
      t.match(compiler, new RegExp(`\\btable\\.${name}\\(`), 'the compiler makes it')
      t.notMatch(builder, new RegExp(`'${name}'`), 'no program records it')
    } else {
      t.match(builder, new RegExp(`'${name}'`), 'a builder function')
    }
  })
}
