// `moepp bench` on a whole model of real size with random weights.
//
//   npm run bench -- end-to-end [--shape=7b] [--vanilla] [--tau=0.75] [--zero=64] [--layers=24]
//                               [--folder=.cache/synthetic] [options of moepp bench]
//
// With --model, or --help, it is `moepp bench` itself.
import { run } from '../dist/cli/run.js'
import { readArguments, splitArguments } from './arguments.mjs'
import { checkZero, SYNTHETIC, synthetic } from './synthetic.mjs'

const args = process.argv.slice(2)
const [own, rest] = splitArguments(args, SYNTHETIC)
if (rest.some(argument => /^(--model(=.*)?|--help|-h)$/s.test(argument))) {
  process.exitCode = await run(['bench', ...args])
} else {
  const { shape, ...options } = readArguments(own, SYNTHETIC, undefined, checkZero)
  process.exitCode = await run(['bench', '--model', synthetic(shape, options), ...rest])
}
