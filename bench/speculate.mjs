// Gain and cost of guesses of the next tokens: the option `speculate`.
//
//   npm run bench -- speculate [--shape=7b] [--layers=8] [--dtype=int8] [--rounds=3]
//
// The weights are random (synthetic.mjs), so a hook dictates the answers. They quote the prompt,
// change some of it, or have nothing of it. Runs with and without guesses take turns; the ratio is
// that of the medians.
import { loadModel } from '../dist/index.js'
import { MATRIX_TYPES } from '../dist/options/load.js'
import { count, oneOf, readArguments } from './arguments.mjs'
import { synthetic } from './synthetic.mjs'
import { randomFrom } from './synthetic-random.mjs'
import { SHAPES } from './synthetic-shapes.mjs'

const KINDS = {
  shape: oneOf(Object.keys(SHAPES)),
  layers: count,
  dtype: oneOf(MATRIX_TYPES),
  rounds: count,
}
const {
  shape = '7b',
  layers = 8,
  dtype = 'int8',
  rounds = 3,
} = readArguments(process.argv.slice(2), KINDS)
const PROMPT_TOKENS = 128
const NEW_TOKENS = 128

const model = await loadModel(synthetic(shape, { layers }), { dtype, kvCacheTokens: 4096 })
const random = randomFrom(1)
const token = () => 10 + Math.floor(random() * (model.config.vocabSize - 20))
const passage = Array.from({ length: PROMPT_TOKENS }, token)
const answer = changed =>
  Array.from({ length: NEW_TOKENS }, (_, i) =>
    random() < changed ? token() : passage[i % PROMPT_TOKENS],
  )
const TEXTS = [
  ['quotes the prompt', answer(0)],
  ['5 % changed', answer(0.05)],
  ['20 % changed', answer(0.2)],
  ['nothing of the prompt', answer(1)],
]

async function run(text, speculate) {
  let at = 0
  const { timings, usage } = await model.generate(passage, {
    maxNewTokens: NEW_TOKENS,
    ignoreEos: true,
    speculate,
    logits: logits => {
      logits[text[at++]] = 1e9
    },
  })
  return { rate: timings.decodeTokensPerSecond, usage }
}

const median = values => values.toSorted((a, b) => a - b)[values.length >> 1]

console.log(`${shape}, ${layers} layers, ${dtype}, on ${model.device.model}`)
await run(TEXTS[0][1], false)
for (const [name, text] of TEXTS) {
  const [plain, guessing] = [[], []]
  for (let round = 0; round < rounds; round++) {
    plain.push(await run(text, false))
    guessing.push(await run(text, true))
  }
  const [before, after] = [plain, guessing].map(runs => median(runs.map(({ rate }) => rate)))
  const { acceptedTokens, draftedTokens } = guessing[0].usage
  console.log(
    `${name.padEnd(22)} ${before.toFixed(1)} -> ${after.toFixed(1)} tokens/s, x ${(after / before).toFixed(2)}, ` +
      `${acceptedTokens} of ${draftedTokens} guesses accepted`,
  )
}
await model.close()
