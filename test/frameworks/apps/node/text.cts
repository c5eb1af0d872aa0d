import { type GenerateOptions, loadModel } from 'moepp'

const options: GenerateOptions = { maxNewTokens: 48, temperature: 0.8, seed: 7 }

async function main(): Promise<void> {
  const model = await loadModel('npm:moepp-books-7m')
  process.stdout.write((await model.generate('The old man', options)).text)
  await model.close()
}
void main()
