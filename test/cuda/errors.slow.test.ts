/**
 * Faults of a GPU, on settings of the emulated one: each is its own typed error, and 'auto' falls
 * back.
 */

import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { root } from '../support/golden.js'
import { emulatedAddon, onGpu } from './gpu.js'

const skip = onGpu && 'a real GPU is not broken at will'

/**
 * Runs `body` in a process of its own, where `loadModel` and `directory` are known; it prints one
 * JSON value.
 */
async function inProcess(gpu: string, body: string): Promise<{ value: unknown; stderr: string }> {
  const script = `
    const { loadModel } = await import(${JSON.stringify(join(root, 'dist/index.js'))})
    const directory = ${JSON.stringify(join(root, 'models/books-7m'))}
    const code = promise => promise.then(() => 'no error', error => [error.code, error.op ?? '', error.message])
    ${body}`
  const env = { ...process.env, MOEPP_BINDING: emulatedAddon, MOEPP_EMULATED_GPU: gpu }
  const child = spawn(process.execPath, ['--input-type=module', '--eval', script], { env })
  const [stdout, stderr, status] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    new Promise(resolve => child.on('close', resolve)),
  ])
  if (status !== 0) throw new Error(`the process ended with ${status}: ${stderr}`)
  return { value: JSON.parse(stdout), stderr }
}

const refused = "console.log(JSON.stringify(await code(loadModel(directory, { device: 'cuda' }))))"
const automatic = `
  const model = await loadModel(directory)
  const { text } = await model.generate('The old man', { maxNewTokens: 4, temperature: 0 })
  console.log(JSON.stringify([model.device.name, model.device.reason ?? '', text.length > 0]))
  await model.close()`

const CASES = [
  { gpu: 'no-driver', code: 'ERR_NO_GPU', message: /no NVIDIA driver/, warns: false },
  { gpu: 'no-device', code: 'ERR_NO_GPU', message: /no such device/, warns: false },
  {
    gpu: 'old-driver',
    code: 'ERR_DRIVER_TOO_OLD',
    message: /supports CUDA 12\.4, .* needs CUDA 13/,
    warns: true,
  },
  {
    gpu: 'mismatched-driver',
    code: 'ERR_DEVICE',
    message: /the NVIDIA driver was updated, .* restart the machine/,
    warns: true,
  },
  {
    gpu: 'no-compatibility',
    code: 'ERR_DRIVER_TOO_OLD',
    message: /forward-compatibility libraries are in use, .* install driver 580 or newer/,
    warns: true,
  },
  {
    gpu: 'not-ready',
    code: 'ERR_DEVICE',
    message: /the NVIDIA driver is not ready; .* nvidia-fabricmanager/,
    warns: true,
  },
  {
    gpu: 'other-gpu',
    code: 'ERR_UNSUPPORTED',
    message: /compute capability 11\.0, for which this build has no kernels/,
    warns: true,
  },
  {
    gpu: 'lost-while-loading',
    code: 'ERR_DEVICE',
    message: /cuda:0: the emulated GPU was lost/,
    warns: true,
  },
  {
    gpu: 'old-gpu',
    code: 'ERR_GPU_TOO_OLD',
    message: /compute capability 7\.0, 7\.5 or newer/,
    warns: true,
  },
]

for (const { gpu, code, message, warns } of CASES) {
  t.test(gpu, { skip }, async t => {
    const { value } = await inProcess(gpu, refused)
    const [got, , text] = value as string[]
    t.equal(got, code)
    t.match(text, message)
    const auto = await inProcess(gpu, automatic)
    const [name, reason, works] = auto.value as [string, string, boolean]
    t.equal(name, 'cpu')
    t.match(reason, message)
    t.ok(works)
    t.equal(/MOEPP_CPU_FALLBACK.*the model runs on the CPU/.test(auto.stderr), warns, auto.stderr)
  })
}

t.test('a GPU with too little memory', { skip }, async t => {
  const { value } = await inProcess(
    'small',
    "console.log(JSON.stringify(await code(loadModel(directory, { device: 'cuda', kvCacheTokens: 100000 }))))",
  )
  const [code, , message] = value as string[]
  t.equal(code, 'ERR_OUT_OF_MEMORY')
  t.match(message, /the model does not fit on cuda:0: .* MiB are available, .* MiB are missing/)
  const unchecked = await inProcess(
    'small',
    `const options = { device: 'cuda', kvCacheTokens: 100000, memoryCheck: false }
     console.log(JSON.stringify(await code(loadModel(directory, options))))`,
  )
  t.match(
    (unchecked.value as string[])[2],
    /kv cache: \d+ bytes could not be allocated on cuda:0, where \d+ of 67108864 are free/,
  )
  const auto = await inProcess('small', automatic)
  const [name, reason] = auto.value as string[]
  t.equal(name, 'cpu')
  t.match(reason, /cuda:0 \(emulated GPU\) has .* free, the model needs/)
  t.match(auto.stderr, /MOEPP_CPU_FALLBACK/)
})

t.test('a launch that fails ends the call, not the process', { skip }, async t => {
  const { value } = await inProcess(
    'broken',
    `const model = await loadModel(directory, { device: 'cuda' })
     const failed = await code(model.generate('The old man', { maxNewTokens: 4 }))
     await model.close()
     const other = await loadModel(directory, { device: 'cpu' })
     const { usage } = await other.generate('The old man', { maxNewTokens: 4, ignoreEos: true })
     await other.close()
     console.log(JSON.stringify([...failed, usage.generatedTokens]))`,
  )
  const [code, op, message, tokens] = value as [string, string, string, number]
  t.equal(code, 'ERR_DEVICE')
  t.equal(op, 'rope_table')
  t.match(message, /^rope_table: cuda:0: /)
  t.equal(tokens, 4)
})

t.test('a GPU that is lost ends every call, not the process', { skip }, async t => {
  const { value } = await inProcess(
    'lost',
    `const model = await loadModel(directory, { device: 'cuda' })
     const options = { maxNewTokens: 4, ignoreEos: true }
     const failed = [await code(model.generate('The old man', options)), await code(model.generate('The', options))]
     await model.close()
     failed.push(await code(loadModel(directory, { device: 'cuda' })))
     const other = await loadModel(directory, { device: 'cpu' })
     const { usage } = await other.generate('The old man', options)
     await other.close()
     console.log(JSON.stringify([...failed, usage.generatedTokens]))`,
  )
  const tokens = (value as unknown[]).pop()
  for (const [code, , message] of value as string[][]) {
    t.equal(code, 'ERR_DEVICE')
    t.match(message, /cuda:0: the emulated GPU was lost/)
  }
  t.equal((value as unknown[]).length, 3)
  t.equal(tokens, 4)
})

t.test('a device that is not there', { skip }, async t => {
  const { value } = await inProcess(
    '',
    "console.log(JSON.stringify(await code(loadModel(directory, { device: 'cuda:3' }))))",
  )
  t.match(value, ['ERR_NO_GPU', '', /cuda:3: this machine has 1 CUDA device, numbered from 0/])
})
