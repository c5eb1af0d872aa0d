/**
 * A process of a group, or alone: loads each of the models that its arguments name, and prints the
 * results of calls as JSON. Arguments: a kind of KINDS, then directories. The first one's texts are
 * long, too.
 */
import { loadBinding } from '../../lib/addon/binding.js'
import { type GenerateOptions, type LoadOptions, loadModel, type Model } from '../../lib/index.js'
import type { Isa } from '../../lib/options/generate.js'

/** Without `isa` each process would choose one by its own measurement. */
const isa = loadBinding().processor().isas[0] as Isa
const CPU: LoadOptions = { device: 'cpu', threads: 1, isa }
const KINDS: Readonly<Record<string, LoadOptions>> = {
  alone: CPU,
  mpi: { ...CPU, parallel: 'mpi' },
  'alone-gpu': { device: 'cuda' },
  nccl: { device: 'cuda', parallel: 'nccl' },
}

const TOKENS = [5, 3, 9, 7, 2, 11, 4]
const OPTIONS = { maxNewTokens: 9, seed: 3, temperature: 0.9, logprobs: 2, ignoreEos: true }
/** A function of the caller's, which keeps a text at rank 0. */
const AT_RANK_0: GenerateOptions = { ...OPTIONS, logits: () => {} }

/** The results of a model. */
export interface Results {
  /** There are at most as many ranks as these. */
  readonly ffnExperts: number
  readonly logits: readonly number[]
  readonly texts: readonly unknown[]
}

async function textsOf(model: Model, prompts: number[][], options = OPTIONS as GenerateOptions) {
  const texts = await model.generate(prompts, options)
  return texts.map(({ tokenIds, logprobs }) => ({ tokenIds, logprobs }))
}

async function resultsOf(model: Model): Promise<Results> {
  const { logits } = await model.forward(TOKENS)
  const prompts = [TOKENS, [3, 4, 5], [7], [6, 5, 4, 3, 2], [9, 9]]
  return {
    ffnExperts: model.config.ffnExperts,
    logits: [...logits],
    texts: await textsOf(model, prompts),
  }
}

/**
 * All long texts at one rank, beside short ones elsewhere; then one text for all ranks. An emulated
 * GPU is slow: its long texts are shorter.
 */
async function unequalLoads(model: Model): Promise<unknown[]> {
  const lengths = model.device.name.startsWith('cuda') ? [150, 140, 130] : [700, 650, 600]
  const prompts = lengths.map(n => Array.from({ length: n }, (_, i) => 3 + (i % 97)))
  const [long, short] = await Promise.all([
    textsOf(model, prompts, AT_RANK_0),
    textsOf(model, [TOKENS, [8, 9]]),
  ])
  return [...long, ...short, ...(await textsOf(model, [TOKENS]))]
}

const [kind, ...directories] = process.argv.slice(2)
const all: Results[] = []
for (const [i, directory] of directories.entries()) {
  await using model = await loadModel(directory, KINDS[kind!])
  if ((model.parallel?.rank ?? 0) > 0) continue
  const { texts, ...results } = await resultsOf(model)
  all.push({ ...results, texts: [...texts, ...(i === 0 ? await unequalLoads(model) : [])] })
}
if (all.length > 0) console.log(JSON.stringify(all))
