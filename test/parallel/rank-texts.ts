/**
 * A process of a group, or alone: loads each of the models that its arguments name, and prints the
 * results of calls as JSON. Arguments: a kind of KINDS, then directories.
 */
import { type LoadOptions, loadModel, type Model } from '../../lib/index.js'

const KINDS: Readonly<Record<string, LoadOptions>> = {
  alone: { device: 'cpu', threads: 1 },
  mpi: { device: 'cpu', threads: 1, parallel: 'mpi' },
  'alone-gpu': { device: 'cuda' },
  nccl: { device: 'cuda', parallel: 'nccl' },
}

const TOKENS = [5, 3, 9, 7, 2, 11, 4]
const OPTIONS = { maxNewTokens: 9, seed: 3, temperature: 0.9, logprobs: 2, ignoreEos: true }

async function resultsOf(model: Model) {
  const { logits } = await model.forward(TOKENS)
  const prompts = [TOKENS, [3, 4, 5], [7], [6, 5, 4, 3, 2], [9, 9]]
  const texts = await model.generate(prompts, OPTIONS)
  return {
    logits: [...logits],
    texts: texts.map(({ tokenIds, logprobs }) => ({ tokenIds, logprobs })),
  }
}

const [kind, ...directories] = process.argv.slice(2)
const all = []
for (const directory of directories) {
  await using model = await loadModel(directory, KINDS[kind!])
  if ((model.parallel?.rank ?? 0) === 0) all.push(await resultsOf(model))
}
if (all.length > 0) console.log(JSON.stringify(all))
