/**
 * The programs of a package's user. Each prints the text that the model generates, and nothing
 * else.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** Sampled, so that a difference anywhere shows. */
export const PROMPT = 'The old man'
export const OPTIONS = { maxNewTokens: 48, temperature: 0.8, seed: 7 }

const call = `model.generate(${JSON.stringify(PROMPT)}, ${JSON.stringify(OPTIONS)})`

const esm = `
import { loadModel } from 'moepp'
const model = await loadModel(process.argv[2])
const { text } = await ${call}
await model.close()
process.stdout.write(text)
`

const commonJs = `
const { loadModel, MoeppError } = require('moepp')
async function main() {
  const model = await loadModel(process.argv[2])
  const { text } = await ${call}
  await model.close()
  if (typeof MoeppError !== 'function') throw new Error('no MoeppError')
  process.stdout.write(text)
}
main()
`

const typescript = `
import { type GenerateOptions, type GenerateResult, loadModel, type Model, MoeppError } from 'moepp'
declare const process: { argv: string[]; stdout: { write(text: string): void } }
const options: GenerateOptions = ${JSON.stringify(OPTIONS)}
const model: Model = await loadModel(process.argv[2]!)
const result: GenerateResult = await model.generate(${JSON.stringify(PROMPT)}, options)
// @ts-expect-error the option does not exist: the types are there and are not any
await model.generate('', { warmth: 1 }).catch((error: MoeppError) => error.code)
await model.close()
process.stdout.write(result.text)
`

const typescriptCommonJs = `
import { type GenerateOptions, loadModel, MoeppError } from 'moepp'
declare const process: { argv: string[]; stdout: { write(text: string): void } }
async function main(): Promise<void> {
  const wrong: GenerateOptions = { maxNewTokens: 0 }
  const model = await loadModel(process.argv[2]!)
  // @ts-expect-error the option does not exist: the types are there and are not any
  await model.generate('', { warmth: 1, ...wrong }).catch((error: MoeppError) => error.code)
  const { text } = await ${call}
  await model.close()
  process.stdout.write(text)
}
void main()
`

const workers = `
import { isMainThread, parentPort, Worker } from 'node:worker_threads'
import { loadModel } from 'moepp'
async function text() {
  const model = await loadModel(process.argv[2])
  const { text } = await ${call}
  await model.close()
  return text
}
if (isMainThread) {
  const start = () => new Promise((resolve, reject) => {
    const worker = new Worker(new URL(import.meta.url), { argv: [process.argv[2]] })
    worker.once('message', resolve).once('error', reject)
  })
  // And once more in this thread, at the same time.
  const texts = await Promise.all([start(), start(), text()])
  if (new Set(texts).size !== 1) throw new Error('the threads differ: ' + JSON.stringify(texts))
  process.stdout.write(texts[0])
} else {
  parentPort.postMessage(await text())
}
`

const twoCopies = `
const copies = await Promise.all(process.argv.slice(3).map(entry => import(entry)))
if (copies[0].loadModel === copies[1].loadModel) throw new Error('one copy, twice')
const models = await Promise.all(copies.map(copy => copy.loadModel(process.argv[2])))
const texts = (await Promise.all(models.map(model => ${call}))).map(result => result.text)
await Promise.all(models.map(model => model.close()))
if (texts[0] !== texts[1]) throw new Error('the copies differ: ' + JSON.stringify(texts))
process.stdout.write(texts[0])
`

const nodeTest = `
import assert from 'node:assert'
import test from 'node:test'
import { loadModel } from 'moepp'
test('generates', async () => {
  const model = await loadModel(process.env.MODEL)
  const { text } = await ${call}
  await model.close()
  assert.strictEqual(text, process.env.EXPECTED)
})
`

/** Prints the error's code and message. */
const failing = `
import { loadModel } from 'moepp'
try {
  await loadModel(process.argv[2])
  process.stdout.write('loaded')
} catch (error) {
  process.stdout.write(error.code + ' ' + error.message)
}
`

/** As users have it; \`module\` goes with each \`moduleResolution\`. */
export const RESOLUTIONS = { node16: 'node16', nodenext: 'nodenext', bundler: 'esnext' } as const

export function writeConsumer(folder: string): void {
  const files = {
    'esm.mjs': esm,
    'commonjs.cjs': commonJs,
    'app.ts': typescript,
    'app-commonjs.cts': typescriptCommonJs,
    'workers.mjs': workers,
    'two-copies.mjs': twoCopies,
    'generates.test.mjs': nodeTest,
    'failing.mjs': failing,
    'package.json': JSON.stringify({ name: 'consumer', private: true, type: 'module' }),
  }
  mkdirSync(folder, { recursive: true })
  for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content)
  for (const [moduleResolution, module] of Object.entries(RESOLUTIONS)) {
    // Strict, and with the package's own declarations checked.
    const compilerOptions = {
      ...{
        module,
        moduleResolution,
        target: 'es2022',
        lib: ['es2023', 'dom', 'esnext.disposable'],
        types: [],
      },
      ...{
        strict: true,
        skipLibCheck: false,
        noUncheckedIndexedAccess: true,
        outDir: `out-${moduleResolution}`,
      },
    }
    // A bundler's modules are ES modules.
    const files = moduleResolution === 'bundler' ? ['app.ts'] : ['app.ts', 'app-commonjs.cts']
    writeFileSync(
      join(folder, `tsconfig.${moduleResolution}.json`),
      JSON.stringify({ compilerOptions, files }),
    )
  }
}
