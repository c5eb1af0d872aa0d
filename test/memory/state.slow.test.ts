/** State files are read and written piece by piece: memory does not grow with their size. */
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import { root } from '../support/golden.js'
import { largeCheckpoint } from '../support/large-checkpoint.js'

const index = pathToFileURL(join(root, 'dist', 'index.js')).href
const TOKENS = 12_000

/** Bytes of a file, and those that a process gained at most when it wrote and when it read it. */
async function measure(source: string): Promise<{ bytes: number; save: number; load: number }> {
  const script = `
    import { readFileSync } from 'node:fs'
    const { loadModel } = await import(${JSON.stringify(index)})
    const peak = () =>
      1024 * Number(readFileSync('/proc/self/status', 'utf8').split('VmHWM:')[1].trim().split(' ')[0])
    const options = { device: 'cpu', threads: 2, contextLength: ${TOKENS}, kvCacheDtype: 'float32' }
    const load = () => loadModel(${JSON.stringify(source)}, options)
    const file = ${JSON.stringify(join(source, 'state.kv'))}
    const prompt = Array.from({ length: ${TOKENS} }, (_, i) => 3 + i % 5003)
    const first = await load()
    await first.saveState(file, prompt)
    const second = await load()
    await second.saveState(file + '2', [1])
    const start = peak()
    const { bytes } = await first.saveState(file, prompt)
    const saved = peak()
    await second.loadState(file)
    console.log(JSON.stringify({ bytes, save: saved - start, load: peak() - saved }))
    process.exit()
  `
  const args = ['--input-type=module', '-e', script]
  const { stdout } = await promisify(execFile)(process.execPath, args)
  return JSON.parse(stdout)
}

t.test(
  'a file much larger than what is read and written at once',
  { skip: process.platform !== 'linux' && 'reads /proc' },
  async t => {
    const directory = t.testdir()
    largeCheckpoint(directory)
    const { bytes, save, load } = await measure(directory)
    t.ok(bytes > 90e6, `${bytes} bytes`)
    t.ok(save < 40e6, `saving took ${save} bytes`)
    // The pages of the second cache are used for the first time.
    t.ok(load < bytes + 40e6, `loading took ${load} bytes, the file has ${bytes}`)
  },
)
