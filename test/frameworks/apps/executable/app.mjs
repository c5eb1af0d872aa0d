import { dirname, join } from 'node:path'
import { loadModel } from 'moepp'

const folder = dirname(process.execPath)
process.env.MOEPP_BINDING ??= join(folder, 'moepp.node')

async function main() {
  const model = await loadModel(join(folder, 'books-7m'))
  const options = { maxNewTokens: 48, temperature: 0.8, seed: 7 }
  process.stdout.write((await model.generate('The old man', options)).text)
  await model.close()
}
main()
