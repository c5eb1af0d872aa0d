// An HTTP endpoint: POST {"prompt": "...", "temperature": 0.8, ...} streams the text back.
// Disconnecting cancels the generation.
//
//   PORT=8080 node examples/server.ts [model]
//   curl -N localhost:8080 -d '{"prompt": "The old man"}'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { loadModel } from 'moepp'

const model = await loadModel(process.argv[2] ?? 'models/books-7m')

const server = createServer(async (request, response) => {
  const gone = new AbortController()
  response.on('close', () => gone.abort())
  try {
    const { prompt, ...options } = JSON.parse(await text(request))
    const stream = model.stream(prompt, { ...options, signal: gone.signal })
    response.writeHead(200, { 'content-type': 'text/plain; charset=utf-8' })
    for await (const chunk of stream) response.write(chunk.text)
    response.end()
  } catch (error) {
    if (!response.headersSent) response.writeHead(400)
    response.end(`${(error as Error).message}\n`)
  }
})
server.listen(Number(process.env.PORT ?? 8080), 'localhost', () =>
  console.log(`http://localhost:${(server.address() as AddressInfo).port}`),
)
process.on('SIGTERM', () => server.close(() => model.close()))
