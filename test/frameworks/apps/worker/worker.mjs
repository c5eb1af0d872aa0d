import { isMainThread, parentPort, Worker } from 'node:worker_threads'
import { loadModel } from 'moepp'

if (isMainThread) {
  const worker = new Worker(new URL(import.meta.url))
  worker.on('message', text => process.stdout.write(text))
} else {
  const model = await loadModel('npm:moepp-books-7m')
  const options = { maxNewTokens: 48, temperature: 0.8, seed: 7 }
  for await (const { text } of model.stream('The old man', options)) parentPort.postMessage(text)
  await model.close()
}
