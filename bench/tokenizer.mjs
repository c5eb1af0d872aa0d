// Encoding with the bundled model's tokenizer, and with one that finds no place to cut a text. CPU
// time, and the longest hold of the event loop in encodeAsync.
//
//   npm run bench -- tokenizer
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout } from 'node:timers/promises'
import { loadTokenizer } from '../dist/index.js'

const BOOKS = join(import.meta.dirname, '../models/books-7m')
const MB = 1_000_000
const english = readFileSync(join(BOOKS, 'heldout.txt'), 'utf8')

/** Merges any number of 'a' and 'b' as one part. */
async function uncutTokenizer() {
  const merges = ['a a', 'a b', 'b a', 'b b', 'aa aa', 'ab ab', 'aaaa aaaa']
  const texts = ['<unk>', 'a', 'b', ...merges.map(merge => merge.replace(' ', ''))]
  const vocab = Object.fromEntries(texts.map((text, id) => [text, id]))
  const replace = { type: 'Replace', pattern: { String: '\u2581' }, content: ' ' }
  const decoder = { type: 'Sequence', decoders: [replace, { type: 'Fuse' }] }
  const model = { type: 'BPE', vocab, merges, unk_token: '<unk>' }
  const directory = mkdtempSync(join(tmpdir(), 'moepp-bench-'))
  try {
    writeFileSync(join(directory, 'tokenizer.json'), JSON.stringify({ model, decoder }))
    return await loadTokenizer(directory)
  } finally {
    rmSync(directory, { recursive: true })
  }
}

function cpuMs() {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1000
}

function encodeMs(tokenizer, text) {
  const start = cpuMs()
  tokenizer.encode(text)
  return cpuMs() - start
}

function repeated(unit, length) {
  return unit.repeat(Math.ceil(length / unit.length)).slice(0, length)
}

async function holds(tokenizer, text) {
  const delay = monitorEventLoopDelay({ resolution: 1 })
  let longest = 0
  let last = 0
  let isOver = false
  const turn = () => {
    longest = Math.max(longest, cpuMs() - last)
    last = cpuMs()
    if (!isOver) setImmediate(turn)
  }
  await setTimeout(20)
  const start = cpuMs()
  last = start
  delay.enable()
  setImmediate(turn)
  await tokenizer.encodeAsync(text)
  isOver = true
  delay.disable()
  const delayMs = (delay.max / 1e6).toFixed(0)
  const total = (cpuMs() - start).toFixed(0)
  return `CPU ${total} ms, longest turn ${longest.toFixed(0)} ms of CPU, delay ${delayMs} ms`
}

const fresh = await loadTokenizer(BOOKS)
const a = 'a'.repeat(200_000)
const first = encodeMs(fresh, a).toFixed(0)
const englishMs = encodeMs(fresh, english).toFixed(0)
const after = Array.from({ length: 3 }, () => encodeMs(fresh, a).toFixed(0)).join(', ')
console.log(`200,000 x a: ${first} ms; ${english.length} of English ${englishMs}; then ${after}`)

const uncut = await uncutTokenizer()
const samples = { a: 'a', NUL: '\0', 'lone surrogates': '\ud800', English: english, emoji: '😀' }
for (const [name, unit] of Object.entries(samples))
  console.log(`1 MB of ${name}: ${await holds(fresh, repeated(unit, MB))}`)
console.log(`1 MB of one uncut word: ${await holds(uncut, repeated('ab', MB))}`)

for (const [name, tokenizer, unit] of [
  ['English', fresh, english],
  ['a', fresh, 'a'],
  ['one uncut word', uncut, 'ab'],
]) {
  const ns = [1e4, 1e5, 1e6, 1e7].map(length => {
    const text = repeated(unit, length)
    const best = Math.min(...Array.from({ length: 3 }, () => encodeMs(tokenizer, text)))
    return ((best * 1e6) / length).toFixed(0)
  })
  console.log(`ns of CPU per character of 10k, 100k, 1M, 10M, ${name}: ${ns.join(', ')}`)
}
