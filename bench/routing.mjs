// Costs of a survey of a text's routing, beside computing the text, and its memory.
//
//   npm run bench -- routing [--model=DIR] [--text=FILE] [--tokens=1000000] [--rounds=5]
//
// In turns: `forward` of the text's windows without logits, with them, the survey, and the survey
// with the rows of each token. The ratios are those of the medians. Then the survey of the text,
// again and again, with the memory that the process holds.
import { readFileSync } from 'node:fs'
import { Model } from '../dist/generation/model.js'
import { loadParts } from '../dist/load/load.js'
import { resolveLoadOptions } from '../dist/options/load.js'
import { survey } from '../dist/routing/survey.js'
import { count, text as file, readArguments } from './arguments.mjs'

const {
  model: source = 'models/books-7m',
  text: path = 'models/books-7m/heldout.txt',
  tokens: most = 1_000_000,
  rounds = 5,
} = readArguments(process.argv.slice(2), { model: file, text: file, tokens: count, rounds: count })
/** Tokens of a window, and of the windows that are computed together, as the survey has them. */
const WINDOW = 1024
const BATCH = 2048

const text = readFileSync(path, 'utf8')
const parts = await loadParts(source, resolveLoadOptions({}))
const model = new Model(parts)
const windowTokens = Math.min(WINDOW, model.contextLength)

async function* times(n) {
  for (let i = 0; i < n; i++) yield text
}

const surveyed = (texts, more = {}) =>
  survey({
    ...{ model, spec: parts.spec, cacheDtype: parts.runner.cache.dtype, windowTokens },
    names: { model: source, file: path, dtype: '' },
    text: times(texts),
    addSpecialTokens: true,
    signal: new AbortController().signal,
    ...more,
  })

const ids = model.tokenizer.encode(text, { addSpecialTokens: false })
const begin = model.tokenizer.encode('').slice(0, 1)
const windows = []
for (let at = 0; at < ids.length; at += windowTokens - begin.length)
  windows.push([...begin, ...ids.slice(at, at + windowTokens - begin.length)])

async function forward(logits) {
  const together = Math.max(1, Math.floor(BATCH / windowTokens))
  for (let at = 0; at < windows.length; at += together)
    await model.forward(windows.slice(at, at + together), { logits })
}

const RUNS = {
  'forward without logits': () => forward(false),
  'forward with logits': () => forward(true),
  survey: () => surveyed(1),
  'survey with rows': () => surveyed(1, { onRows: () => {} }),
}

const median = values => values.toSorted((a, b) => a - b)[values.length >> 1]

/** Wall and processor seconds. */
async function timed(run) {
  const started = performance.now()
  const before = process.cpuUsage()
  await run()
  const { user, system } = process.cpuUsage(before)
  return { wall: (performance.now() - started) / 1e3, cpu: (user + system) / 1e6 }
}

console.log(`${source}, ${ids.length} tokens in windows of ${windowTokens}, ${model.device.model}`)
const found = Object.fromEntries(Object.keys(RUNS).map(name => [name, []]))
for (const run of Object.values(RUNS)) await run()
for (let round = 0; round < rounds; round++)
  for (const [name, run] of Object.entries(RUNS)) found[name].push(await timed(run))
const of = (name, kind) => median(found[name].map(each => each[kind]))
const [base] = Object.keys(RUNS)
for (const name of Object.keys(RUNS)) {
  const ratio = kind => (of(name, kind) / of(base, kind)).toFixed(3)
  const rate = Math.round(ids.length / of(name, 'wall'))
  console.log(`${name.padEnd(24)} ${rate} tokens/s, x ${ratio('wall')} time, x ${ratio('cpu')} CPU`)
}

const repeats = Math.ceil(most / ids.length)
const started = performance.now()
let next = most / 10
await surveyed(repeats, {
  limitTokens: most,
  onProgress: (_, tokens) => {
    if (tokens < next) return
    next += most / 5
    console.log(`${tokens} tokens: ${Math.round(process.memoryUsage.rss() / 1e6)} MB`)
  },
})
console.log(`${most} tokens in ${((performance.now() - started) / 1000).toFixed(0)} s`)
await model.close()
