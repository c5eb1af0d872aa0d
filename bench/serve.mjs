// The server under load, on a checkpoint with random weights: moepp serve's routes in a process of
// its own, and clients in this one.
//
//   npm run bench -- serve [--shape=7b] [--layers=32] [--dtype=int4] [--seconds=20] [--prompt=64]
//                          [--tokens=64] [--parts=closed,open,overhead]
//
// closed    1 to 64 clients, each sends its next request when the last has ended
// open      requests come by chance (Poisson), at a tenth of the capacity to twice it
// overhead  16 streams by HTTP against model.generate of the same 16 prompts, in turns
//
// Prompts are random tokens, and no two begin alike. TTFT is the time to the first token, ITL the
// time between two tokens. 50, 95 and 99 % of the times were at most those printed.
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { rmSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { MATRIX_TYPES } from '../dist/options/load.js'
import { count, listOf, oneOf, positive, readArguments } from './arguments.mjs'
import { complete, quantiles } from './serve-client.mjs'
import { synthetic } from './synthetic.mjs'
import { randomFrom } from './synthetic-random.mjs'
import { SHAPES } from './synthetic-shapes.mjs'
import { withTokenizer } from './synthetic-tokenizer.mjs'

const PARTS = ['closed', 'open', 'overhead']
const KINDS = {
  shape: oneOf(Object.keys(SHAPES)),
  layers: count,
  dtype: oneOf(MATRIX_TYPES),
  seconds: positive,
  prompt: count,
  tokens: count,
  parts: listOf(oneOf(PARTS)),
}
const {
  shape = '7b',
  layers,
  dtype = 'int4',
  seconds = 20,
  prompt: promptTokens = 64,
  tokens: newTokens = 64,
  parts = PARTS,
} = readArguments(process.argv.slice(2), KINDS)

const CLIENTS = [1, 2, 4, 8, 16, 32, 64]
const RATES = [0.1, 0.25, 0.5, 0.75, 1, 1.5, 2]
const BATCH = 16
const ROUNDS = 5
/** Small enough that twice the capacity fills it. */
const MAX_QUEUED = 32

const random = randomFrom(1)
const { vocab } = SHAPES[shape]
const newPrompt = () =>
  Array.from({ length: promptTokens }, () => 10 + Math.floor(random() * (vocab - 20)))
const request = () => ({ prompt: newPrompt(), max_tokens: newTokens, ignore_eos: true })
const sleep = ms => new Promise(resolve => setTimeout(resolve, ms))

const folder = withTokenizer(synthetic(shape, { layers }), vocab)
const server = fork(fileURLToPath(new URL('serve-child.mjs', import.meta.url)), [
  JSON.stringify({
    folder,
    dtype,
    maxQueued: MAX_QUEUED,
    kvCacheTokens: 64 * (promptTokens + newTokens + 64),
  }),
])
const [{ address, device }] = await once(server, 'message')
console.log(`${shape}, ${layers ?? 'all'} layers, ${dtype}, on ${device}`)
console.log(`${promptTokens} tokens in, ${newTokens} out; ${seconds} s a row`)

/** Asks the server's process for something that HTTP does not give. */
async function ask(message) {
  server.send(message)
  const [answer] = await once(server, 'message')
  return answer
}

const HEAD = ['', 'tokens/s', 'requests/s', 'refused', 'TTFT ms 50/95/99 %', 'ITL ms 50/95/99 %']
const row = cells => console.log(`| ${cells.join(' | ')} |`)
function table() {
  row(HEAD)
  row(HEAD.map(() => '---'))
}

/** Runs `load(results)` and prints what came of it. */
async function measure(name, load) {
  const results = []
  const begun = performance.now()
  await load(results)
  const took = (performance.now() - begun) / 1000
  const done = results.filter(({ status }) => status === 200)
  const refused = results.filter(({ status }) => status === 429)
  const failed = results.length - done.length - refused.length
  if (failed > 0)
    throw new Error(
      `${failed} requests failed: ${JSON.stringify(results.find(({ status }) => status !== 200 && status !== 429))}`,
    )
  const tokens = done.reduce((sum, { times }) => sum + times.length, 0)
  const show = values =>
    quantiles(values)
      .map(ms => ms.toFixed(0))
      .join(' / ')
  row([
    name,
    (tokens / took).toFixed(1),
    (done.length / took).toFixed(2),
    refused.length === 0 ? '0' : `${refused.length}, in ${show(refused.map(({ ms }) => ms))} ms`,
    show(done.map(({ times }) => times[0])),
    show(done.flatMap(({ times }) => times.slice(1).map((time, i) => time - times[i]))),
  ])
  return { tokensPerSecond: tokens / took, requestsPerSecond: done.length / took }
}

function closedLoop(clients) {
  return async results => {
    const end = performance.now() + seconds * 1000
    const client = async () => {
      while (performance.now() < end) results.push(await complete(address, request()))
    }
    await Promise.all(Array.from({ length: clients }, client))
  }
}

function openLoop(rate) {
  return async results => {
    const end = performance.now() + seconds * 1000
    const all = []
    for (
      let next = performance.now();
      next < end;
      next += (-Math.log(1 - random()) / rate) * 1000
    ) {
      await sleep(Math.max(0, next - performance.now()))
      all.push(complete(address, request()).then(result => results.push(result)))
    }
    await Promise.all(all)
  }
}

await complete(address, request())
let peak = { tokensPerSecond: 0, requestsPerSecond: 0 }
if (parts.includes('closed') || parts.includes('open')) {
  console.log('\nClosed loop, by clients\n')
  table()
  for (const clients of parts.includes('closed') ? CLIENTS : [64]) {
    const reached = await measure(clients, closedLoop(clients))
    if (reached.tokensPerSecond > peak.tokensPerSecond) peak = reached
  }
}
if (parts.includes('open')) {
  console.log(`\nOpen loop, by shares of ${peak.requestsPerSecond.toFixed(2)} requests/s\n`)
  table()
  for (const share of RATES) {
    const reached = await measure(share, openLoop(share * peak.requestsPerSecond))
    if (share === RATES.at(-1))
      console.log(
        `\nAt twice the capacity: ${((100 * reached.tokensPerSecond) / peak.tokensPerSecond).toFixed(1)} % of the peak`,
      )
  }
}
if (parts.includes('overhead')) {
  const ratios = []
  for (let round = 0; round < ROUNDS; round++) {
    const prompts = Array.from({ length: BATCH }, newPrompt)
    const { ms: direct } = await ask({ prompts, newTokens })
    const begun = performance.now()
    await Promise.all(Array.from({ length: BATCH }, () => complete(address, request())))
    ratios.push((performance.now() - begun) / direct)
  }
  const [median] = quantiles(ratios)
  console.log(
    `\n${BATCH} streams by HTTP take ${median.toFixed(3)} of the time of generate (median of ${ROUNDS}: ${ratios.map(ratio => ratio.toFixed(3)).join(', ')})`,
  )
}
server.disconnect()
await once(server, 'exit')
rmSync(folder, { recursive: true })
