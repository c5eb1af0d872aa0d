// A batch job: one prompt per line of a file in, one JSON document per line out, in the same order.
//
//   node examples/batch.ts prompts.txt [model] > results.jsonl
import { createReadStream } from 'node:fs'
import { createInterface } from 'node:readline'
import { type GenerateOptions, loadModel, type Model } from 'moepp'

/** Prompts that are computed together. A larger batch takes more memory, and less time a prompt. */
const BATCH = 16
const options: GenerateOptions = { temperature: 0.8, maxNewTokens: 48, seed: 1 }

async function finish(model: Model, prompts: string[]): Promise<void> {
  const results = await model.generate(prompts, options)
  for (const [i, { text, finishReason, usage }] of results.entries())
    console.log(JSON.stringify({ prompt: prompts[i], text, finishReason, ...usage }))
}

const [file, source = 'models/books-7m'] = process.argv.slice(2)
if (file === undefined) throw new TypeError('expected a file of prompts, one per line')
const model = await loadModel(source)
let prompts: string[] = []
for await (const line of createInterface({ input: createReadStream(file) })) {
  if (line !== '') prompts.push(line)
  if (prompts.length < BATCH) continue
  await finish(model, prompts)
  prompts = []
}
if (prompts.length > 0) await finish(model, prompts)
await model.close()
