// The process of the server that serve.mjs measures. It serves by HTTP, and generates without it
// when it is sent prompts.
import { loadModel } from '../dist/index.js'
import { serve } from '../dist/server/index.js'

const { folder, dtype, maxQueued, kvCacheTokens } = JSON.parse(process.argv[2])
const model = await loadModel(folder, { dtype, device: 'cpu', kvCacheTokens })
const server = await serve(model, { maxQueued })
process.on('message', async ({ prompts, newTokens }) => {
  const begun = performance.now()
  await model.generate(prompts, {
    maxNewTokens: newTokens,
    ignoreEos: true,
    temperature: 1,
    topK: 0,
    logprobs: 0,
  })
  process.send({ ms: performance.now() - begun })
})
process.on('disconnect', async () => {
  await server.close()
  await model.close()
})
process.send({ address: await server.listen({ port: 0 }), device: model.device.model })
