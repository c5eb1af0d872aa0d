/** LongCat-Flash-Lite's n-grams: their rows, the stored names, and all ways to run a text. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { convertCheckpoint } from '../../lib/convert/convert.js'
import { inspectCheckpoint } from '../../lib/convert/inspect.js'
import { describeModel } from '../../lib/families/registry.js'
import { estimateMemory, loadModel, type Model } from '../../lib/index.js'
import { type NgramShape, Ngrams, timesModulo } from '../../lib/layers/ngrams.js'
import { safetensorsBytes } from '../checkpoint/files.js'
import { goldenCase, readGolden } from '../support/golden.js'
import { loadGroup } from '../support/group.js'

const source = goldenCase('ngram-eos', 'longcat_flash_ngram')
const config = JSON.parse(readFileSync(join(source, 'config.json'), 'utf8')) as {
  [key: string]: unknown
}
const EOS = config.eos_token_id as number

/** The formula of docs/models/longcat-flash.md over a whole text, in integers of any size. */
function exactRows(shape: NgramShape, text: readonly number[]): number[] {
  const { vocabSize, ngramOrder, ngramSplits, ngramRatio, eosTokenIds } = shape
  return text.flatMap((_, position) => {
    let first = 0n
    const rows: number[] = []
    for (let order = 2; order <= ngramOrder; order++) {
      for (let j = 0; j < ngramSplits; j++) {
        const table = (order - 2) * ngramSplits + j
        const M = BigInt(ngramRatio) * BigInt(vocabSize) + BigInt(2 * table + 1)
        let sum = 0n
        for (let d = 0; d < order && position - d >= 0; d++) {
          const id = text[position - d]!
          if (d > 0 && eosTokenIds.includes(id)) break
          sum += BigInt(id) * BigInt(vocabSize) ** BigInt(d)
        }
        rows.push(Number(first + (sum % M)))
        first += M
      }
    }
    return rows
  })
}

/** The rows that a step of tokens from..to gets. */
function rowsOf(ngrams: Ngrams, text: readonly number[], from = 0, to = text.length): number[] {
  const preceding = text
    .slice(from, to)
    .flatMap((_, i) => Array.from({ length: ngrams.reach }, (_, d) => text[from + i - d - 1] ?? 0))
  return [...ngrams.rows(Int32Array.from(text.slice(from, to)), Int32Array.from(preceding))]
}

const SHAPES: readonly NgramShape[] = [
  { vocabSize: 100, hiddenSize: 45, ngramOrder: 4, ngramSplits: 3, ngramRatio: 1 },
  { vocabSize: 7, hiddenSize: 4, ngramOrder: 2, ngramSplits: 1, ngramRatio: 1 },
  { vocabSize: 1, hiddenSize: 4, ngramOrder: 3, ngramSplits: 2, ngramRatio: 3 },
  // The published model.
  { vocabSize: 131072, hiddenSize: 3072, ngramOrder: 4, ngramSplits: 4, ngramRatio: 78 },
  // Products beyond 2^53, and as many rows as there may be.
  { vocabSize: 900_000_001, hiddenSize: 2, ngramOrder: 3, ngramSplits: 1, ngramRatio: 1 },
  { vocabSize: 2 ** 31 - 2, hiddenSize: 2, ngramOrder: 2, ngramSplits: 1, ngramRatio: 1 },
].map(shape => ({ ...shape, eosTokenIds: [Math.min(2, shape.vocabSize - 1)] }))

const place = (ngrams: Ngrams, from: number, to: number) =>
  [from, to].map(t => t * ngrams.tableRows.length) as [number, number]

t.test('rows of n-grams, also of large ids and over ends of texts', async t => {
  for (const shape of SHAPES) {
    const { vocabSize: V, eosTokenIds } = shape
    const ngrams = new Ngrams(shape)
    const ids = Array.from({ length: 40 }, (_, i) => Math.floor((V * ((i * 0.618034) % 1)) % V))
    for (const eos of [[], [7], [0, 1, 8, 9, 10, 12, 39]]) {
      const text = ids.map((id, i) => (eos.includes(i) ? eosTokenIds[0]! : id))
      text[20] = V - 1
      text[21] = V - 1
      t.same(rowsOf(ngrams, text), exactRows(shape, text), `vocabulary ${V}, ends at ${eos}`)
      t.same(rowsOf(ngrams, text, 9, 23), exactRows(shape, text).slice(...place(ngrams, 9, 23)))
    }
  }
})

t.test('products modulo a number, exactly', async t => {
  const numbers = [0, 1, 65535, 65536, 65537, 123456789, 2 ** 31 - 2, 2 ** 31 - 1]
  for (const m of [1, 2, 65536, 999_999_937, 2 ** 31 - 1]) {
    for (const a of numbers)
      for (const b of numbers)
        t.equal(timesModulo(a, b, m), Number((BigInt(a) * BigInt(b)) % BigInt(m)))
  }
})

t.test('config.json', async t => {
  const parse = (changes: object) => describeModel({ ...config, ...changes }, 'config.json').config
  const bad = (changes: object, message: RegExp) =>
    t.throws(() => parse(changes), { code: 'ERR_BAD_CONFIG', message })
  t.match(parse({}), {
    family: 'longcat-flash-ngram',
    ngramOrder: 4,
    ngramSplits: 3,
    ngramRatio: 1,
  })
  const none = {
    ...{ emb_neighbor_num: undefined, emb_split_num: undefined },
    ngram_vocab_size_ratio: undefined,
  }
  const sparse = { ...none, oe_neighbor_num: 2, oe_split_num: 5, oe_vocab_size_ratio: 7 }
  t.match(parse(sparse), { ngramOrder: 2, ngramSplits: 5, ngramRatio: 7 })
  bad(none, /emb_neighbor_num/)
  bad({ oe_split_num: 5 }, /emb_split_num is 3, but oe_split_num, which means the same, is 5/)
  bad({ emb_neighbor_num: 1 }, /emb_neighbor_num is 1, expected 2 at least/)
  bad({ emb_split_num: 7 }, /hidden_size is 45, expected a multiple of emb_split_num 7 \*/)
  bad({ ngram_vocab_size_ratio: 1.5 }, /expected an integer/)
  bad({ ngram_vocab_size_ratio: 2 ** 25 }, /more than 2\^31 - 1 rows/)
  bad({ eos_token_id: [2, 3] }, /expected one token that ends n-grams/)
  t.same(parse({ eos_token_id: null }).eosTokenIds, [])
})

// ---- checkpoints

type Tensors = Map<string, { shape: readonly number[]; bytes: Buffer }>

function readTensors(): Tensors {
  const file = readGolden(join(source, 'model.safetensors'))
  return new Map(
    file.names.map(name => {
      const { shape, data } = file.values(name)
      return [name, { shape, bytes: Buffer.from(data.buffer) }]
    }),
  )
}

function write(directory: string, json: object, tensors: Tensors): string {
  const header: Record<string, object> = {}
  let end = 0
  for (const [name, { shape, bytes }] of tensors) {
    header[name] = { dtype: 'F32', shape, data_offsets: [end, end + bytes.length] }
    end += bytes.length
  }
  mkdirSync(directory)
  const data = Buffer.concat([...tensors.values()].map(({ bytes }) => bytes))
  writeFileSync(join(directory, 'model.safetensors'), safetensorsBytes(header, data))
  writeFileSync(join(directory, 'config.json'), JSON.stringify(json))
  return directory
}

const load = (directory = source, options = {}) =>
  loadModel(directory, { device: 'cpu', threads: 2, ...options })

/** With repetitions, and ends of texts at any place. */
const textOf = (length: number, seed = 1) =>
  Array.from({ length }, (_, i) => {
    const id = (seed * 31 + ((i % 50) * (i % 7) + 13 * (i % 11))) % 100
    return (i * seed) % 13 === 5 ? EOS : id
  })

async function logitsOf(directory: string): Promise<Float32Array> {
  await using model = await load(directory)
  return (await model.forward(textOf(30))).logits
}

t.test('the names of stored tensors', async t => {
  const folder = t.testdir()
  const renamed = (rename: (name: string) => string): Tensors =>
    new Map([...readTensors()].map(([name, tensor]) => [rename(name), tensor]))
  const expected = await logitsOf(source)
  const sparse = renamed(name =>
    name
      .replace('ngram_embeddings.embedders.', 'oe_embed_tokens')
      .replace('ngram_embeddings.post_projs.', 'oe_embed_proj'),
  )
  t.ok(sparse.has('model.oe_embed_tokens8.weight'))
  t.same(await logitsOf(write(join(folder, 'sparse'), config, sparse)), expected)
  const words = 'model.ngram_embeddings.word_embeddings.weight'
  const tokens = 'model.embed_tokens.weight'
  const twice = new Map([...readTensors(), [words, readTensors().get(tokens)!] as const])
  t.same(await logitsOf(write(join(folder, 'twice'), config, twice)), expected)
  twice.delete(tokens)
  t.same(await logitsOf(write(join(folder, 'once'), config, twice)), expected)
})

t.test('tensors that are missing, or of another shape', async t => {
  const folder = t.testdir()
  const table = 'model.ngram_embeddings.embedders.3.weight'
  for (const name of [table, 'model.ngram_embeddings.post_projs.8.weight']) {
    const tensors = readTensors()
    const { shape, bytes } = tensors.get(name)!
    tensors.delete(name)
    const rejects = (part: string, message: string) =>
      t.rejects(load(write(join(folder, `${name} ${part}`), config, tensors)), {
        code: 'ERR_BAD_WEIGHTS',
        message: new RegExp(`${name.replaceAll('.', '\\.')}: ${message}`),
      })
    await rejects('missing', 'missing in')
    tensors.set(name, { shape: [...shape].reverse(), bytes })
    await rejects('turned', 'weight is \\[\\d+, \\d+\\] f32, expected')
  }
})

// ---- ways to run a text

const GREEDY = { ignoreEos: true, temperature: 0, logprobs: 2 }

t.test('chunks, batches, shared prefixes and guesses give the bits of one pass', async t => {
  await using model = await load(source, { contextLength: 2048, kvCacheTokens: 4096 })
  // Four times 300 tokens are three steps of 512. Each text alone is one.
  const texts = [1, 2, 3, 4].map(seed => textOf(300, seed))
  const together = await model.forward(texts)
  const alone = await forwardEach(model, texts)
  for (const [i, { logits }] of together.entries()) t.same(logits, alone[i], `text ${i}`)

  const text = textOf(100)
  await using fresh = await load()
  const plain = await fresh.generate(text, { ...GREEDY, maxNewTokens: 40 })
  const beginning = await model.generate(text.slice(0, 71), { ...GREEDY, maxNewTokens: 1 })
  t.equal(beginning.tokenIds.length, 1)
  const cached = await model.generate(text, { ...GREEDY, maxNewTokens: 40 })
  t.ok(cached.usage.cachedTokens >= 64)
  t.same(cached.logprobs, plain.logprobs, 'after a shared prefix')

  // A text that repeats itself: guesses come, and some are dropped.
  const again = Array.from({ length: 4 }, () => plain.tokenIds).flat()
  const expected = await fresh.generate(again, { ...GREEDY, maxNewTokens: 60 })
  const speculate = { ngram: 1, tokens: 5 }
  const guessed = await model.generate(again, { ...GREEDY, maxNewTokens: 60, speculate })
  t.ok(guessed.usage.draftedTokens! > guessed.usage.acceptedTokens!)
  t.same(guessed.logprobs, expected.logprobs, 'with guesses')
})

async function forwardEach(model: Model, texts: readonly number[][]): Promise<Float32Array[]> {
  const results: Float32Array[] = []
  for (const text of texts) results.push((await model.forward(text)).logits)
  return results
}

t.test('ranks that run it together', async t => {
  await using model = await load()
  await using group = await loadGroup(source, 2)
  const texts = [1, 2, 3].map(seed => textOf(70, seed))
  const options = { ...GREEDY, maxNewTokens: 20 }
  const [expected, got] = [
    await model.generate(texts, options),
    await group.model.generate(texts, options),
  ]
  for (const [i, { tokenIds, logprobs }] of got.entries()) {
    t.same(tokenIds, expected[i]!.tokenIds)
    t.same(logprobs, expected[i]!.logprobs)
  }
})

t.test('conversions keep the tables', async t => {
  const folder = t.testdir()
  for (const dtype of ['auto', 'float32', 'bfloat16', 'int8', 'int4'] as const) {
    const target = join(folder, dtype)
    await convertCheckpoint(source, target, { dtype })
    await using converted = await load(target)
    await using original = await load(source, { dtype })
    const text = textOf(40)
    t.same((await converted.forward(text)).logits, (await original.forward(text)).logits, dtype)
  }
})

t.test('tables are no part of the memory', async t => {
  const { parameters, memory } = await inspectCheckpoint(source)
  // Nine tables of 101, 103, ... rows of 5 elements, and nine projections of them.
  const elements = 9 * 109 * 5
  t.equal(memory.tableBytes, 4 * elements)
  t.equal(parameters.byKind.ngrams, elements + 45 * 45)
  t.equal(memory.weightBytes.float32, 4 * (parameters.total - elements))
  const { weightBytes, tableBytes } = await estimateMemory(source, { device: 'cpu' })
  t.same(
    { weightBytes, tableBytes },
    { weightBytes: memory.weightBytes.float32, tableBytes: 4 * elements },
  )
  const { even } = parameters.activePerToken
  t.ok(even.parameters < parameters.total - elements + 45 + 1)
})
