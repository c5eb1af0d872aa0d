// Multiple choice: ranks continuations of a prompt. The score of each is its log-probability,
// divided by the number of its tokens.
//
//   node examples/choice.ts "The old" " man" " table" [...]
//   MODEL=hf:owner/name node examples/choice.ts ...
import { loadModel } from 'moepp'

const [prompt, ...choices] = process.argv.slice(2)
if (prompt === undefined || choices.length < 2)
  throw new TypeError('expected a prompt and two continuations or more')

const model = await loadModel(process.env.MODEL ?? 'models/books-7m')
// All at once: the model computes the choices together.
const scores = await Promise.all(choices.map(choice => model.score(prompt, choice)))
const ranked = scores
  .map(({ logprob, tokenIds }, i) => ({ choice: choices[i], score: logprob / tokenIds.length }))
  .sort((a, b) => b.score - a.score)
for (const { choice, score } of ranked) console.log(`${score.toFixed(2)} ${choice}`)
await model.close()
