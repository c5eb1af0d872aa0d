// A server in a program of yours: OpenAI's interface, the page to try it, and a route of your own.
// It needs further packages: npm install fastify prom-client
//
//   PORT=8080 node examples/server.ts [model]
//   JSON='content-type: application/json'
//   curl localhost:8080/v1/completions -H "$JSON" -d '{"prompt": "The old man"}'
//   curl localhost:8080/perplexity -H "$JSON" -d '{"text": "The old man"}'
import { loadModel } from 'moepp'
import { serve } from 'moepp/server'

const model = await loadModel(process.argv[2] ?? 'models/books-7m')
const server = await serve(model, { modelName: 'books-7m' })

server.app.post<{ Body: { text: string } }>('/perplexity', async ({ body }) => {
  const [first = 0, ...rest] = model.tokenizer.encode(body.text)
  const { logprob } = await model.score([first], rest)
  return { perplexity: Math.exp(-logprob / rest.length) }
})

console.log(await server.listen({ port: Number(process.env.PORT ?? 8080) }))
process.once('SIGTERM', async () => {
  await server.close()
  await model.close()
})
