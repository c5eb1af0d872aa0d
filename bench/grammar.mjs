// Grammars over a vocabulary: compiling, finding the allowed tokens, and the share of a step.
//
//   npm run bench -- grammar [FOLDER]      a folder with a tokenizer.json; default: books-7m's
//
// "thread" is the time from a token to the allowed tokens behind it, with both messages. It runs
// beside the model's step. "main" is what the thread of the caller does: posting, and the draw
// from the allowed tokens of a whole row.
import { join } from 'node:path'
import { CompiledGrammar } from '../dist/grammar/compiled-grammar.js'
import { shareVocabulary } from '../dist/grammar/vocabulary.js'
import { loadTokenizer } from '../dist/index.js'
import { Sampler } from '../dist/sampling/sampler.js'

const STEP_MS = 10

const string = { type: 'string' }
const person = {
  type: 'object',
  properties: {
    name: string,
    age: { type: 'integer', minimum: 0, maximum: 150 },
    tags: { type: 'array', items: { type: 'string', maxLength: 20 } },
    kind: { enum: ['a', 'b', 'c'] },
    about: { type: 'string', maxLength: 400 },
  },
  required: ['name', 'age', 'tags', 'kind', 'about'],
}
const document = {
  name: 'John "x" Smith é 東京',
  age: 42,
  tags: ['one', 'two three'],
  kind: 'b',
  about: 'A man of few words, and of many more that nobody has heard. '.repeat(6),
}

const CASES = [
  ['schema', { jsonSchema: person }, JSON.stringify(document)],
  ['any JSON', { jsonSchema: true }, JSON.stringify(document)],
  ['regex', { regex: '[0-9]{3}-[a-z ]+' }, '123-some words of a text'],
  ['ebnf', { ebnf: 'root ::= word (" " word)* "."\nword ::= [a-zA-Z]+' }, 'Some words of a text.'],
]

const OPTIONS = {
  ...{ doSample: true, temperature: 1, topK: 50, topP: 1, minP: 0, typicalP: 1, seed: 1 },
  ...{ repetitionPenalty: 1, frequencyPenalty: 0, presencePenalty: 0, noRepeatNgramSize: 0 },
  ...{ logitBias: new Map(), minNewTokens: 0, logprobs: undefined, logits: undefined },
}

function summary(times) {
  const sorted = times.toSorted((a, b) => a - b)
  const at = share => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]
  return `${at(0.5).toFixed(2)} / ${at(0.99).toFixed(2)} / ${at(1).toFixed(2)}`
}

const sleep = ms => new Promise(resolve => setTimeout(resolve, ms))

async function measure(name, source, text, tokenizer, vocabulary) {
  let start = performance.now()
  const grammar = new CompiledGrammar(source, vocabulary)
  await grammar.compiled
  const compile = performance.now() - start
  const ids = tokenizer.encode(text, { addSpecialTokens: false })
  // SentencePiece puts a space in front, which no grammar here begins with.
  while (ids.length > 0 && tokenizer.idToToken(ids[0]).startsWith('\u2581')) ids.shift()
  const row = Float32Array.from({ length: vocabulary.ends.length }, (_, i) => Math.sin(i * i))
  const thread = []
  const waits = []
  const draws = []
  for (const hasStep of [false, true]) {
    const matcher = grammar.open([], false)
    const sampler = new Sampler(OPTIONS, {
      promptIds: [],
      endTokenIds: [],
      stream: 0,
      allowed: matcher,
    })
    await matcher.pending
    for (const id of ids) {
      if (((matcher.mask[id >> 5] >>> (id & 31)) & 1) === 0) break
      start = performance.now()
      sampler.distribution(row)
      if (hasStep) draws.push(performance.now() - start)
      start = performance.now()
      matcher.accept(id)
      if (hasStep) await sleep(STEP_MS)
      start = hasStep ? performance.now() : start
      await matcher.pending
      ;(hasStep ? waits : thread).push(performance.now() - start)
    }
    matcher.close()
  }
  console.log(
    `| ${name} | ${compile.toFixed(0)} | ${thread.length} | ${summary(thread)} | ${summary(waits)} | ${summary(draws)} |`,
  )
  grammar.close()
}

const folder = process.argv[2] ?? join(import.meta.dirname, '../models/books-7m')
const tokenizer = await loadTokenizer(folder)
const start = performance.now()
const vocabulary = await shareVocabulary(tokenizer.pieces, tokenizer.vocabSize)
console.log(`${tokenizer.vocabSize} tokens, shared in ${(performance.now() - start).toFixed(0)} ms`)
console.log(
  '| grammar | compile ms | tokens | thread ms | waiting behind a step of 10 ms | draw ms |',
)
console.log('|---|---|---|---|---|---|')
for (const each of CASES) await measure(...each, tokenizer, vocabulary)
