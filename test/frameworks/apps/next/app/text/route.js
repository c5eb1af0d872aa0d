import { loadModel } from 'moepp'

let model // Loaded by the first request: next build runs this file as well.

export async function GET(request) {
  model ??= loadModel('npm:moepp-books-7m')
  const prompt = new URL(request.url).searchParams.get('prompt') ?? 'The old man'
  const options = { maxNewTokens: 48, temperature: 0.8, seed: 7, signal: request.signal }
  return new Response(ReadableStream.from(chunks((await model).stream(prompt, options))))
}

async function* chunks(stream) {
  const encoder = new TextEncoder()
  for await (const { text } of stream) yield encoder.encode(text)
}
