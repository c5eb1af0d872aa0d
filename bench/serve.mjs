// The server under load, on a checkpoint with random weights: moepp serve's routes in a process of
// its own, and clients in this one.
//
//   npm run bench -- serve [--shape=7b] [--layers=24] [--dtype=int4] [--warm=15] [--seconds=45]
//                          [--prompt=64] [--tokens=64] [--rounds=5] [--parts=closed,open,overhead]
//
// closed    1 to 64 clients, each sends its next request when the last has ended
// open      requests come by chance (Poisson), at a tenth of the capacity to twice it
// overhead  16 clients by HTTP, and 16 callers of model.stream in the server's process, in turns
//
// A row runs for `warm` seconds, and then for `seconds`, which alone are measured. Prompts are
// random tokens, and no two begin alike. TTFT is the time from the request to the first token, ITL
// that between two tokens. 50, 95 and 99 % of the times were at most those printed.
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { MATRIX_TYPES } from '../dist/options/load.js'
import { count, listOf, oneOf, positive, readArguments } from './arguments.mjs'
import { clients, complete, measured, quantiles } from './serve-client.mjs'
import { synthetic } from './synthetic.mjs'
import { randomFrom } from './synthetic-random.mjs'
import { SHAPES } from './synthetic-shapes.mjs'
import { withTokenizer } from './synthetic-tokenizer.mjs'

const PARTS = ['closed', 'open', 'overhead']
const KINDS = {
  shape: oneOf(Object.keys(SHAPES)),
  layers: count,
  dtype: oneOf(MATRIX_TYPES),
  warm: positive,
  seconds: positive,
  prompt: count,
  tokens: count,
  rounds: count,
  parts: listOf(oneOf(PARTS)),
}
const {
  shape = '7b',
  layers,
  dtype = 'int4',
  warm = 15,
  seconds = 45,
  prompt: promptTokens = 64,
  tokens: newTokens = 64,
  rounds = 5,
  parts = PARTS,
} = readArguments(process.argv.slice(2), KINDS)

const CLIENTS = [1, 2, 4, 8, 16, 32, 64]
const RATES = [0.1, 0.25, 0.5, 0.75, 1, 1.5, 2]
const BATCH = 16
/** Small enough that twice the capacity fills it. */
const MAX_QUEUED = 16
/** Of the server's default: as many as run together. */
const RUNNING = 64

const time = { warm, seconds }
const random = randomFrom(1)
const { vocab } = SHAPES[shape]
const newPrompt = () =>
  Array.from({ length: promptTokens }, () => 10 + Math.floor(random() * (vocab - 20)))
const sleep = ms => new Promise(resolve => setTimeout(resolve, ms))

const folder = withTokenizer(synthetic(shape, { layers }), vocab)
const kvCacheTokens = RUNNING * (promptTokens + newTokens + 64)
const program = fileURLToPath(new URL('serve-child.mjs', import.meta.url))
const server = fork(program, [
  JSON.stringify({ folder, dtype, maxQueued: MAX_QUEUED, kvCacheTokens }),
])
const [{ address, device }] = await once(server, 'message')
const request = signal =>
  complete(address, { prompt: newPrompt(), max_tokens: newTokens, ignore_eos: true }, signal)

console.log(`${shape}, ${layers ?? 'all'} layers, ${dtype}, on ${device}`)
console.log(`${promptTokens} tokens in, ${newTokens} out; ${seconds} s a row after ${warm} s`)

function table(title) {
  console.log(`\n${title}\n`)
  row(['', 'tokens/s', 'requests/s', 'refused', 'TTFT ms 50/95/99 %', 'ITL ms 50/95/99 %'])
  row(['---', '---', '---', '---', '---', '---'])
}

function row(cells) {
  console.log(`| ${cells.join(' | ')} |`)
}

const shares = values =>
  quantiles(values)
    .map(ms => ms.toFixed(0))
    .join(' / ')

/** Measures a load and prints its row. */
async function measure(name, load) {
  const { tokensPerSecond, done, refused, failed, firsts, gaps } = await measured(
    time,
    request,
    load,
  )
  if (failed.length > 0) throw new Error(`a request failed: ${JSON.stringify(failed[0])}`)
  const times = refused.map(({ begun, ended }) => ended - begun)
  row([
    name,
    tokensPerSecond.toFixed(1),
    (done.length / seconds).toFixed(2),
    refused.length === 0 ? '0' : `${refused.length}, in ${shares(times)} ms`,
    shares(firsts),
    shares(gaps),
  ])
  return tokensPerSecond
}

function poisson(perSecond) {
  return async (send, stop) => {
    const all = []
    let next = performance.now()
    while (!stop.aborted) {
      next += (-Math.log(1 - random()) / perSecond) * 1000
      await sleep(Math.max(0, next - performance.now()))
      if (!stop.aborted) all.push(send())
    }
    await Promise.all(all)
  }
}

await request()
let peak = 0
if (parts.includes('closed') || parts.includes('open')) {
  table('Closed loop, by clients')
  for (const count of parts.includes('closed') ? CLIENTS : [RUNNING])
    peak = Math.max(peak, await measure(count, clients(count)))
}
if (parts.includes('open')) {
  const capacity = peak / newTokens
  table(`Open loop, by shares of ${capacity.toFixed(2)} requests/s`)
  for (const share of RATES) {
    const reached = await measure(share, poisson(share * capacity))
    if (share === RATES.at(-1))
      console.log(`\nTwice the capacity: ${((100 * reached) / peak).toFixed(1)} % of the peak`)
  }
}
if (parts.includes('overhead')) {
  const ratios = []
  for (let round = 0; round < rounds; round++) {
    const prompts = Array.from({ length: 10 * BATCH }, newPrompt)
    server.send({ prompts, count: BATCH, newTokens, time })
    const [direct] = await once(server, 'message')
    const http = await measured(time, request, clients(BATCH))
    ratios.push(http.tokensPerSecond / direct.tokensPerSecond)
  }
  const all = ratios.map(ratio => ratio.toFixed(3)).join(', ')
  console.log(`\nTokens by HTTP, of those of model.stream, ${BATCH} at a time:`)
  console.log(`${quantiles(ratios)[0].toFixed(3)} (median of ${all})`)
}
server.disconnect()
await once(server, 'exit')
