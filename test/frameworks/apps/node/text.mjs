import { loadModel } from 'moepp'

const model = await loadModel('npm:moepp-books-7m')
const options = { maxNewTokens: 48, temperature: 0.8, seed: 7 }
for await (const { text } of model.stream('The old man', options)) process.stdout.write(text)
await model.close()
