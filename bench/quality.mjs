// The cost in quality of quantised weights and rounded activations: the bundled model on its
// held-out text, against float32.
//
//   npm run bench -- quality [--windows=338] [--dtypes=bfloat16,rounded,int8,int4,int4-all]
//
// rounded is bfloat16 with activationDtype 'bfloat16'. Protocol of the model card: the text is cut
// into windows of 256 ids, each predicted after BOS alone. Perplexity is over the ids of the
// windows. The Kullback-Leibler divergence, in nats, compares the distribution at each position
// with float32's.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { count, listOf, oneOf, readArguments } from './arguments.mjs'

export const BOOKS = fileURLToPath(new URL('../models/books-7m/', import.meta.url))
const WINDOW = 256
const BOS = 1

/** The first `count` windows of the held-out text, or all. */
export function heldOutWindows(tokenizer, count = Number.POSITIVE_INFINITY) {
  const ids = tokenizer.encode(readFileSync(join(BOOKS, 'heldout.txt'), 'utf8'), {
    addSpecialTokens: false,
  })
  const windows = Math.min(count, Math.floor(ids.length / WINDOW))
  return Array.from({ length: windows }, (_, w) => ids.slice(WINDOW * w, WINDOW * (w + 1)))
}

/** A model's difference from `reference`, which runs the same weights in float32. */
export async function measureQuality(reference, model, windows) {
  const { layers, ffnExperts, vocabSize } = model.config
  const sums = { logprob: 0, referenceLogprob: 0, top1: 0, ffnPicks: 0 }
  const divergences = []
  const sameSets = new Array(layers).fill(0)
  for (const ids of windows) {
    const input = [BOS, ...ids.slice(0, -1)]
    const options = { capture: ['layers.*.expert_indices'] }
    const [expected, got] = await Promise.all([
      reference.forward(input, options),
      model.forward(input, options),
    ])
    for (const [t, id] of ids.entries()) {
      const p = expected.logits.subarray(t * vocabSize, (t + 1) * vocabSize)
      const q = got.logits.subarray(t * vocabSize, (t + 1) * vocabSize)
      const normP = logSumExp(p)
      const normQ = logSumExp(q)
      sums.referenceLogprob += p[id] - normP
      sums.logprob += q[id] - normQ
      sums.top1 += argmax(p) === argmax(q) ? 1 : 0
      let divergence = 0
      for (let v = 0; v < vocabSize; v++) {
        const logP = p[v] - normP
        divergence += Math.exp(logP) * (logP - (q[v] - normQ))
      }
      divergences.push(divergence)
    }
    for (let layer = 0; layer < layers; layer++) {
      const name = `layers.${layer}.expert_indices`
      const [a, b] = [expected.captured[name], got.captured[name]]
      for (let i = 0; i < b.length; i += 2) {
        const same =
          (a[i] === b[i] && a[i + 1] === b[i + 1]) || (a[i] === b[i + 1] && a[i + 1] === b[i])
        sameSets[layer] += same ? 1 : 0
        sums.ffnPicks += (b[i] < ffnExperts ? 1 : 0) + (b[i + 1] < ffnExperts ? 1 : 0)
      }
    }
  }
  const tokens = divergences.length
  divergences.sort((a, b) => a - b)
  return {
    tokens,
    perplexity: Math.exp(-sums.logprob / tokens),
    referencePerplexity: Math.exp(-sums.referenceLogprob / tokens),
    meanDivergence: divergences.reduce((a, b) => a + b, 0) / tokens,
    divergence99: divergences[Math.floor(0.99 * tokens)],
    top1Agreement: sums.top1 / tokens,
    /** By layer: the share of tokens whose two experts are the same. */
    routingAgreement: sameSets.map(same => same / tokens),
    ffnExpertsPerToken: sums.ffnPicks / (tokens * layers),
  }
}

function logSumExp(row) {
  let most = Number.NEGATIVE_INFINITY
  for (const x of row) if (x > most) most = x
  let sum = 0
  for (const x of row) sum += Math.exp(x - most)
  return most + Math.log(sum)
}

function argmax(row) {
  let best = 0
  for (let v = 1; v < row.length; v++) if (row[v] > row[best]) best = v
  return best
}

const COLUMNS = [
  ['dtype', ({ dtype }) => dtype],
  ['perplexity', q => q.perplexity.toFixed(4)],
  ['against float32', q => percent(q.perplexity / q.referencePerplexity - 1, 3)],
  ['mean KL', q => q.meanDivergence.toExponential(2)],
  ['99 % KL', q => q.divergence99.toExponential(2)],
  ['top-1 agreement', q => percent(q.top1Agreement, 2)],
  [
    'routing agreement by layer',
    q => q.routingAgreement.map(share => percent(share, 2)).join(', '),
  ],
  ['FFN experts per token', q => q.ffnExpertsPerToken.toFixed(4)],
]

function percent(share, digits) {
  return `${(100 * share).toFixed(digits)} %`
}

const DTYPES = ['bfloat16', 'rounded', 'int8', 'int4', 'int4-all']

async function main() {
  const options = readArguments(process.argv.slice(2), {
    windows: count,
    dtypes: listOf(oneOf(DTYPES)),
  })
  const { loadModel } = await import('../dist/index.js')
  const reference = await loadModel(BOOKS, { device: 'cpu', dtype: 'float32' })
  const windows = heldOutWindows(reference.tokenizer, options.windows)
  const results = []
  console.log(
    `| ${COLUMNS.map(([title]) => title).join(' | ')} |\n|${'---|'.repeat(COLUMNS.length)}`,
  )
  for (const dtype of ['float32', ...(options.dtypes ?? DTYPES)]) {
    const types =
      dtype === 'rounded' ? { dtype: 'bfloat16', activationDtype: 'bfloat16' } : { dtype }
    const model = await loadModel(BOOKS, { device: 'cpu', ...types })
    const result = { dtype, ...(await measureQuality(reference, model, windows)) }
    await model.close()
    results.push(result)
    console.log(`| ${COLUMNS.map(([, show]) => show(result)).join(' | ')} |`)
  }
  const { model: processor, isa } = reference.device
  await reference.close()
  console.log(JSON.stringify({ processor, isa, windows: windows.length, results }))
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main()
