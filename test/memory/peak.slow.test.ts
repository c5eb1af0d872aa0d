/** Estimates against the peaks of processes that load, fill a step and fill the KV cache. */
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import { convertCheckpoint } from '../../lib/convert/convert.js'
import { root } from '../support/golden.js'
import { largeCheckpoint } from '../support/large-checkpoint.js'

const index = pathToFileURL(join(root, 'dist', 'index.js')).href

/** The most memory that a process gained, and the estimate. */
async function measure(source: string, dtype: string): Promise<{ peak: number; total: number }> {
  const script = `
    import { readFileSync } from 'node:fs'
    const { estimateMemory, loadModel } = await import(${JSON.stringify(index)})
    const options = { device: 'cpu', dtype: '${dtype}', threads: 2, kvCacheTokens: 1024 }
    const { totalBytes } = await estimateMemory(${JSON.stringify(source)}, options)
    const kilobytes = name =>
      Number(readFileSync('/proc/self/status', 'utf8').split(name + ':')[1].trim().split(' ')[0])
    const before = kilobytes('VmRSS')
    const model = await loadModel(${JSON.stringify(source)}, options)
    const prompt = Array.from({ length: 1000 }, (_, i) => 3 + i % 50)
    await model.generate(prompt, { maxNewTokens: 20, ignoreEos: true })
    console.log(JSON.stringify({ peak: 1024 * (kilobytes('VmHWM') - before), total: totalBytes }))
    await model.close()
  `
  const args = ['--input-type=module', '-e', script]
  const { stdout } = await promisify(execFile)(process.execPath, args)
  return JSON.parse(stdout)
}

t.test(
  'peaks stay within 10 % and 16 MB of the estimate',
  { skip: process.platform !== 'linux' && 'reads /proc' },
  async t => {
    const directory = t.testdir()
    const { bytes } = largeCheckpoint(directory)
    const packed = join(directory, 'packed')
    await convertCheckpoint(directory, packed, { dtype: 'int8' })
    for (const [source, dtype] of [
      [directory, 'float32'],
      [directory, 'int4'],
      [packed, 'auto'],
    ] as const) {
      const { peak, total } = await measure(source, dtype)
      t.ok(total > bytes / 2, 'the margin is small beside the estimate')
      const margin = 0.1 * total + 16e6
      t.ok(Math.abs(peak - total) < margin, `${dtype}: estimated ${total}, measured ${peak}`)
    }
  },
)
