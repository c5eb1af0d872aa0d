// moepp and llama.cpp on the same vanilla twin, and MoE++ beside them, in one run, alternating.
// README.md of bench/ says more.
//
//   node bench/compare/llama.mjs [7b] [--layers=24] [--dtype=int8] [--threads=2] [--repetitions=5]
//     [--tau=0.75] [--zero=64]
//     [--prefill=512] [--decode=64] [--contexts=32,512] [--moepp-dtype=...]
//     [--activation-dtype=bfloat16] [--folder=.cache/synthetic]
import { fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { Sequences } from '../../dist/benchmark/sequences.js'
import { loadParts } from '../../dist/load/load.js'
import { resolveLoadOptions } from '../../dist/options/generate.js'
import { count, listOf, oneOf, readArguments } from '../arguments.mjs'
import { checkZero, SYNTHETIC, synthetic } from '../synthetic.mjs'
import { availableThreads } from '../threads.mjs'
import { countSame, requireAgreement } from './agreement.mjs'
import { load } from './packages.mjs'
import { vanillaGguf } from './vanilla-gguf.mjs'

const GGUF_TYPES = { bfloat16: 'BF16', int8: 'Q8_0', int4: 'Q4_0' }

const median = values => values.toSorted((a, b) => a - b)[values.length >> 1]

const { shape, layers, tau, zero, folder } = SYNTHETIC
const KINDS = {
  shape,
  layers,
  tau,
  zero,
  folder,
  dtype: oneOf(Object.keys(GGUF_TYPES)),
  'moepp-dtype': oneOf(['float32', 'bfloat16', 'int8', 'int4', 'int4-all']),
  'activation-dtype': oneOf(['auto', 'bfloat16']),
  threads: count,
  repetitions: count,
  prefill: count,
  decode: count,
  contexts: listOf(count),
}

function readOptions(args) {
  const parsed = readArguments(args, KINDS, 'shape', checkZero)
  const { shape: name = '7b', layers, tau, zero, folder, ...given } = parsed
  const {
    dtype = 'int8',
    threads = availableThreads(),
    repetitions = 5,
    prefill = 512,
    decode = 64,
    contexts = [32, 512],
  } = given
  const { 'moepp-dtype': moeppDtype = dtype, 'activation-dtype': activationDtype = 'auto' } = given
  const options = {
    name,
    synthetic: { layers, tau, zero, folder },
    dtype,
    moeppDtype,
    activationDtype,
  }
  const contextLength = Math.max(prefill, ...[AGREEMENT, ...contexts].map(each => each + decode))
  return { ...options, threads, repetitions, prefill, decode, contexts, contextLength }
}

/**
 * One side: prefill and decode of the same fixed tokens, in milliseconds, and the likeliest tokens
 * of a decode.
 */
class Moepp {
  static async load(directory, { moeppDtype, activationDtype, threads, contextLength }) {
    const types = { dtype: moeppDtype, activationDtype }
    const options = {
      device: 'cpu',
      ...types,
      threads,
      contextLength,
      kvCacheTokens: contextLength,
    }
    const { runner } = await loadParts(directory, resolveLoadOptions(options))
    return new Moepp(runner, new Sequences(runner, [contextLength]))
  }

  constructor(runner, sequences) {
    this.runner = runner
    this.sequences = sequences
  }

  async prefill(tokens) {
    const started = performance.now()
    await this.sequences.prefill(1, tokens)
    return performance.now() - started
  }

  async decode(context, tokens) {
    await this.sequences.fill(1, context)
    const likeliest = []
    const started = performance.now()
    // Both sides' times include finding the likeliest token.
    await this.sequences.decode(1, context, tokens, undefined, ([token]) => likeliest.push(token))
    return { ms: performance.now() - started, likeliest }
  }

  close() {
    return this.runner.close()
  }
}

/** llama.cpp with or without flash attention, in the process of llama-peer.mjs. */
class Llama {
  constructor(peer, flashAttention) {
    Object.assign(this, { peer, flashAttention })
  }

  prefill(tokens) {
    return this.peer.ask('prefill', { flashAttention: this.flashAttention, tokens })
  }

  decode(context, tokens) {
    return this.peer.ask('decode', { flashAttention: this.flashAttention, context, tokens })
  }
}

/**
 * llama.cpp has a process of its own. ggml keeps a thread's AMX tiles configured from call to call,
 * and the threads that Node hands out may run either program's tiles.
 */
class Peer {
  constructor() {
    this.child = fork(fileURLToPath(new URL('llama-peer.mjs', import.meta.url)))
  }

  async ask(method, options) {
    const [answer] = await new Promise((resolve, reject) => {
      const ended = code => reject(new Error(`llama-peer.mjs ended with ${code}`))
      this.child.once('exit', ended)
      this.child.once('message', message => {
        this.child.off('exit', ended)
        resolve([message])
      })
      this.child.send({ method, options })
    })
    if (answer.error) throw new Error(answer.error)
    return answer.result
  }

  close() {
    this.child.disconnect()
  }
}

/** All sides in turn, again and again: tokens per second of each test and side. */
async function alternate(sides, { repetitions, prefill, decode, contexts }) {
  const tests = [
    [`pp${prefill}`, async side => (1000 * prefill) / (await side.prefill(prefill))],
    ...contexts.map(context => [
      `tg${decode}@${context}`,
      async side => (1000 * decode) / (await side.decode(context, decode)).ms,
    ]),
  ]
  const rates = Object.fromEntries(
    tests.map(([test]) => [test, Object.fromEntries(Object.keys(sides).map(name => [name, []]))]),
  )
  for (const [test, measure] of tests) {
    for (const side of Object.values(sides)) await measure(side)
    for (let i = 0; i < repetitions; i++) {
      for (const [name, side] of Object.entries(sides)) rates[test][name].push(await measure(side))
    }
  }
  return rates
}

/** Tokens before those that both sides must agree on. */
const AGREEMENT = 32

/** Positions at which both sides hold the same token for the likeliest. */
async function agreement(a, b, tokens) {
  const { likeliest } = await a.decode(AGREEMENT, tokens)
  return countSame(likeliest, (await b.decode(AGREEMENT, tokens)).likeliest)
}

const cell = values => median(values).toPrecision(3)

async function main() {
  const options = readOptions(process.argv.slice(2))
  // Before anything is made.
  await load('node-llama-cpp')
  const { name, dtype, moeppDtype, activationDtype, threads, repetitions } = options
  const { layers, folder } = options.synthetic
  const path = vanillaGguf(name, { layers, folder }, GGUF_TYPES[dtype])
  const directories = {
    vanilla: synthetic(name, { ...options.synthetic, vanilla: true }),
    '++': synthetic(name, options.synthetic),
  }
  // A shape without zero-computation experts is its own twin.
  if (directories['++'] === directories.vanilla) delete directories['++']
  const peer = new Peer()
  console.log(`llama.cpp: ${await peer.ask('load', { path, ...options })}`)
  const peers = {
    'llama.cpp': new Llama(peer, false),
    'llama.cpp, flash attention': new Llama(peer, true),
  }
  const document = {
    name,
    layers,
    dtype,
    moeppDtype,
    activationDtype,
    threads,
    repetitions,
    rates: {},
  }
  for (const [kind, directory] of Object.entries(directories)) {
    console.error(`loading ${kind}`)
    const moepp = await Moepp.load(directory, options)
    if (kind === 'vanilla') {
      const same = await agreement(moepp, peers['llama.cpp'], options.decode)
      document.agreement = `${same} of ${options.decode}`
      console.log(
        `the same likeliest next token at ${document.agreement} positions (vanilla, llama.cpp)`,
      )
      requireAgreement(same, options.decode, [dtype, moeppDtype])
    }
    document.rates[kind] = await alternate({ moepp, ...peers }, options)
    await moepp.close()
  }
  print(document, GGUF_TYPES[dtype])
  peer.close()
}

function print(document, type) {
  const { name, layers, moeppDtype, activationDtype, threads, repetitions, rates } = document
  console.log(
    `${name}${layers ? `, ${layers} layers` : ''}; moepp ${moeppDtype}, activations ${activationDtype}, llama.cpp ${type}; ${threads} threads, medians of ${repetitions}\n`,
  )
  console.log(
    '| test | moepp runs | moepp | llama.cpp | with flash attention | ratio to the better |',
  )
  console.log('|---|---|---:|---:|---:|---:|')
  const ratios = {}
  for (const [kind, tests] of Object.entries(rates)) {
    for (const [test, sides] of Object.entries(tests)) {
      const [own, plain, flash] = Object.values(sides)
      const ratio = median(own) / Math.max(median(plain), median(flash))
      ratios[`${test} ${kind}`] = ratio
      console.log(
        `| ${test} | ${kind} | ${cell(own)} | ${cell(plain)} | ${cell(flash)} | ${ratio.toFixed(2)} |`,
      )
    }
  }
  console.log(JSON.stringify({ ...document, ratios }))
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main()
