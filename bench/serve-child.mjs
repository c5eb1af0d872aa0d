// The process of the server that serve.mjs measures. When it is sent a load, it runs that without
// HTTP, and answers with its tokens per second.
import { loadModel } from '../dist/index.js'
import { serve } from '../dist/server/index.js'
import { clients, measured } from './serve-client.mjs'

const { folder, dtype, maxQueued, kvCacheTokens } = JSON.parse(process.argv[2])
const model = await loadModel(folder, { dtype, device: 'cpu', kvCacheTokens })
const server = await serve(model, { maxQueued })

/** As the server generates for complete(). */
async function generate(prompt, maxNewTokens, signal) {
  const options = { maxNewTokens, ignoreEos: true, temperature: 1, topK: 0, logprobs: 0, signal }
  const result = { begun: performance.now(), times: [], status: 200 }
  for await (const { tokenIds } of model.stream(prompt, options))
    for (const _ of tokenIds) result.times.push(performance.now())
  return { ...result, ended: performance.now() }
}

process.on('message', async ({ prompts, count, newTokens, time }) => {
  let next = 0
  const request = signal => generate(prompts[next++ % prompts.length], newTokens, signal)
  process.send(await measured(time, request, clients(count)))
})
process.on('disconnect', async () => {
  await server.close()
  await model.close()
})
process.send({ address: await server.listen({ port: 0 }), device: model.device.model })
