// `moepp bench` on a whole model of real size with random weights.
//
//   npm run bench -- end-to-end [--shape=7b] [--vanilla] [--tau=0.75] [--layers=24] [options of moepp bench]
//
// With --model it is `moepp bench` itself.
import { run } from '../dist/cli/run.js'
import { flag, synthetic, syntheticArguments } from './synthetic.mjs'

const OWN = /^--(shape=|vanilla$|tau=|layers=)/

const args = process.argv.slice(2)
const own = args.filter(argument => OWN.test(argument))
const rest = args.filter(argument => !OWN.test(argument))
const hasModel = rest.some(argument => /^--model(=|$)/.test(argument))
const shape = flag(own, 'shape') ?? '7b'
const model = hasModel ? [] : ['--model', synthetic(...syntheticArguments([shape, ...own]))]
process.exitCode = await run(['bench', ...model, ...rest])
