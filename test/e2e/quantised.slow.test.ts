/** int8 and int4 weights: what instruction sets have in common, and what they cost in quality. */
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import t from 'tap'
import { loadBinding } from '../../lib/addon/binding.js'
import { convertCheckpoint } from '../../lib/convert/convert.js'
import { loadModel } from '../../lib/load/load.js'
import type { Isa } from '../../lib/options/generate.js'
import { goldenCase, root } from '../support/golden.js'

const books = join(root, 'models', 'books-7m')
const DTYPES = ['int8', 'int4', 'int4-all'] as const

function bits(values: Float32Array): Buffer {
  return Buffer.from(values.buffer, values.byteOffset, values.byteLength)
}

/**
 * Instruction sets whose vectors are equally wide: the f32 sums of attention and norms differ
 * between widths, in any dtype.
 */
const WIDTH: Readonly<Record<string, string>> = {
  amx: 'avx512',
  avx512bf16: 'avx512',
  avx512vnni: 'avx512',
  avxvnni: 'avx2',
  neonbf16: 'neon',
  neoni8mm: 'neon',
  neondot: 'neon',
}

t.test(
  'instruction sets give the same ids, those of one vector width the same bits, loaded and mapped',
  async t => {
    const folder = t.testdir()
    const { isas } = loadBinding().processor()
    for (const source of [books, goldenCase('tied-bin'), goldenCase('gqa')]) {
      for (const dtype of DTYPES) {
        const packed = join(folder, `${source.split('/').at(-1)}-${dtype}`)
        await convertCheckpoint(source, packed, { dtype })
        const byWidth = new Map<string, Buffer>()
        const idsByCache = new Map<string, number[]>()
        for (const isa of isas) {
          for (const [directory, options, kvCacheDtype] of [
            [source, { dtype }, 'float32'],
            [packed, {}, 'float32'],
            [source, { dtype }, 'bfloat16'],
            [packed, {}, 'bfloat16'],
          ] as const) {
            const given = { threads: 2, isa: isa as Isa, kvCacheDtype, ...options }
            await using model = await loadModel(directory, given)
            t.equal(model.device.isa, isa)
            const { vocabSize } = model.config
            const prompt = [
              1,
              ...Array.from({ length: 70 }, (_, i) => 3 + ((i * 7919) % (vocabSize - 3))),
            ]
            const { logits } = await model.forward(prompt)
            const { tokenIds } = await model.generate(prompt.slice(0, 5), {
              maxNewTokens: 24,
              ignoreEos: true,
            })
            const where = `${directory}, ${dtype}, ${isa}, cache ${kvCacheDtype}`
            // Over a bf16 cache these sets round queries and weights of attention.
            const alone = isa.endsWith('bf16') && kvCacheDtype === 'bfloat16'
            const width = `${alone ? isa : (WIDTH[isa] ?? isa)}, ${kvCacheDtype}`
            const expected = byWidth.get(width)
            if (expected) t.ok(bits(logits).equals(expected), `${where}: logits`)
            byWidth.set(width, bits(logits))
            // A small model of random weights chooses between close logits.
            const cache = alone ? isa : kvCacheDtype
            const ids = idsByCache.get(cache)
            if (ids) t.same(tokenIds, ids, `${where}: greedy ids`)
            idsByCache.set(cache, tokenIds)
          }
        }
      }
    }
  },
)

t.test('a bf16 cache, and cached prefixes, as with any dtype', async t => {
  for (const dtype of DTYPES) {
    await using model = await loadModel(books, { device: 'cpu', dtype, kvCacheDtype: 'bfloat16' })
    const options = { maxNewTokens: 30, ignoreEos: true }
    const first = await model.generate('The old man and the sea', options)
    const again = await model.generate('The old man and the sea', options)
    t.same(again.tokenIds, first.tokenIds)
    t.ok(again.usage.cachedTokens > 0, 'from the cache')
  }
})

interface Quality {
  readonly dtype: string
  readonly tokens: number
  readonly perplexity: number
  readonly referencePerplexity: number
  readonly meanDivergence: number
  readonly routingAgreement: readonly number[]
}

t.test('quality on held-out text', async t => {
  const script = join(root, 'bench', 'quality.mjs')
  const args = [script, '--windows=16', '--dtypes=bfloat16,rounded,int8,int4,int4-all']
  const output = execFileSync(process.execPath, args, {
    encoding: 'utf8',
    env: { ...process.env, NODE_OPTIONS: '' },
  })
  const { results } = JSON.parse(output.trim().split('\n').at(-1)!) as { results: Quality[] }
  const of = (dtype: string) => results.find(result => result.dtype === dtype)!
  const change = ({ perplexity, referencePerplexity }: Quality) =>
    perplexity / referencePerplexity - 1
  t.equal(of('int8').tokens, 16 * 256)
  t.equal(change(of('float32')), 0)
  t.ok(of('float32').meanDivergence < 1e-12)
  // The checkpoint is bf16. AMX adds up in another order than f32 weights are, which may turn a
  // close choice of experts.
  t.ok(
    Math.abs(change(of('bfloat16'))) < 1e-5,
    `bfloat16: perplexity changes by ${change(of('bfloat16'))}`,
  )
  // Rounded activations and a bf16 cache: a sixteenth of int8's error in each element.
  t.ok(
    Math.abs(change(of('rounded'))) < 0.001,
    `rounded: perplexity changes by ${change(of('rounded'))}`,
  )
  t.ok(
    of('rounded').meanDivergence < of('int8').meanDivergence,
    `rounded: KL ${of('rounded').meanDivergence}`,
  )
  t.ok(Math.abs(change(of('int8'))) < 0.001, `int8: perplexity changes by ${change(of('int8'))}`)
  t.ok(of('int8').meanDivergence < 0.002, `int8: KL ${of('int8').meanDivergence}`)
  // int4 has no target; ten times int8's error is what a wrong scale or a swapped half would exceed
  // by far.
  t.ok(of('int4').meanDivergence > of('int8').meanDivergence, 'int4 is coarser')
  t.ok(of('int4').meanDivergence < 0.1, `int4: KL ${of('int4').meanDivergence}`)
  const all = of('int4-all').meanDivergence
  t.ok(all > of('int4').meanDivergence && all < 0.1, `int4-all: KL ${all}`)
  for (const { dtype, perplexity, meanDivergence, routingAgreement } of results) {
    t.comment(
      `${dtype}: perplexity ${perplexity.toFixed(4)}, KL ${meanDivergence.toExponential(2)}, ${routingAgreement}`,
    )
  }
})
