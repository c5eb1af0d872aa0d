/**
 * Models come and go: two at once, workers that exit in the middle, objects that are never closed,
 * and nothing left behind.
 */
import { spawn } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { Worker } from 'node:worker_threads'
import t from 'tap'
import { loadBinding } from '../../lib/addon/binding.js'
import { convertCheckpoint } from '../../lib/convert/convert.js'
import { inspectCheckpoint } from '../../lib/convert/inspect.js'
import { loadModel, type Model } from '../../lib/index.js'
import { root } from '../support/golden.js'
import { largeCheckpoint } from '../support/large-checkpoint.js'

const books = join(root, 'models', 'books-7m')
const index = pathToFileURL(join(root, 'dist', 'index.js')).href

t.test('two models at once', async t => {
  const [one, two] = await Promise.all([
    loadModel(books, { dtype: 'float32' }),
    loadModel(books, { dtype: 'bfloat16' }),
  ])
  const options = { maxNewTokens: 64, seed: 3, temperature: 0.9 }
  const alone = [await one.generate('The', options), await two.generate('It was', options)]
  const together = await Promise.all([
    one.generate('The', options),
    two.generate('It was', options),
  ])
  t.same(
    together.map(result => result.tokenIds),
    alone.map(result => result.tokenIds),
  )
  await one.close()
  t.same(
    (await two.generate('It was', options)).tokenIds,
    alone[1]!.tokenIds,
    'the other is not closed',
  )
  await two.close()
})

// Their steps take turns on one pool of threads, op by op. A long context is shared out among
// threads.
t.test('two models at once, with long contexts', async t => {
  for (const dtypes of [
    ['bfloat16', 'bfloat16'],
    ['int8', 'bfloat16'],
  ] as const) {
    const models = await Promise.all(
      dtypes.map(dtype => loadModel(books, { device: 'cpu', dtype })),
    )
    const prompt = Array.from({ length: 700 }, (_, i) => 3 + i)
    const run = (model: Model) => model.generate(prompt, { maxNewTokens: 40, ignoreEos: true })
    const alone: Awaited<ReturnType<typeof run>>[] = []
    for (const model of models) alone.push(await run(model))
    for (let round = 0; round < 4; round++) {
      const together = await Promise.all(models.map(run))
      for (const [i, { tokenIds }] of together.entries())
        t.same(tokenIds, alone[i]!.tokenIds, `${dtypes[i]}`)
    }
    for (const model of models) await model.close()
  }
})

/** Runs a script as an ES module in a worker of this process; resolves to its exit code. */
function runWorker(script: string, terminateAfterMs?: number): Promise<number> {
  const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(script)}`), {
    execArgv: [],
  })
  return new Promise((resolve, reject) => {
    worker.on('error', reject)
    worker.on('exit', resolve)
    if (terminateAfterMs !== undefined) {
      worker.on('message', () => setTimeout(() => worker.terminate(), terminateAfterMs))
    }
  })
}

const generateForever = `
  import { parentPort } from 'node:worker_threads'
  const { loadModel } = await import(${JSON.stringify(index)})
  const model = await loadModel(${JSON.stringify(books)})
  parentPort.postMessage('running')
`

t.test('a worker generates', async t => {
  const script = `
    const { loadModel } = await import(${JSON.stringify(index)})
    const model = await loadModel(${JSON.stringify(books)})
    const { tokenIds } = await model.generate('The old man', { maxNewTokens: 5 })
    await model.close()
    process.exit(tokenIds.length === 5 ? 0 : 1)
  `
  t.equal(await runWorker(script), 0)
})

t.test('a worker that exits during a run', async t => {
  for (const wait of [0, 3, 20]) {
    const script = `${generateForever}; await model.generate('The', { maxNewTokens: 4000, ignoreEos: true })`
    t.equal(await runWorker(script, wait), 1, 'terminated')
  }
  await using model = await loadModel(books)
  t.equal(
    (await model.generate('The', { maxNewTokens: 3 })).tokenIds.length,
    3,
    'the main thread goes on',
  )
})

t.test('a worker that exits while a model loads', async t => {
  const script = `
    import { parentPort } from 'node:worker_threads'
    const { loadModel } = await import(${JSON.stringify(index)})
    const loading = loadModel(${JSON.stringify(books)})
    parentPort.postMessage('loading')
    await loading
  `
  t.type(await runWorker(script, 1), 'number')
})

/** Runs a script as an ES module in a process of its own. */
function runProcess(
  script: string,
): Promise<{ code: number | null; signal: string | null; output: string }> {
  const child = spawn(process.execPath, ['--expose-gc', '--input-type=module', '-e', script], {
    cwd: root,
  })
  let output = ''
  child.stdout.on('data', part => (output += part))
  child.stderr.on('data', part => (output += part))
  return new Promise(resolve =>
    child.on('close', (code, signal) => resolve({ code, signal, output })),
  )
}

t.test('a process that exits during a run', async t => {
  const script = `
    const { loadModel } = await import(${JSON.stringify(index)})
    const model = await loadModel(${JSON.stringify(books)})
    model.generate('The', { maxNewTokens: 4000, ignoreEos: true })
    setTimeout(() => process.exit(7), 30)
  `
  t.match(await runProcess(script), { code: 7, signal: null })
})

t.test('a model that is not closed keeps no process alive', async t => {
  const script = `
    const { loadModel } = await import(${JSON.stringify(index)})
    const model = await loadModel(${JSON.stringify(books)})
    await model.generate('The', { maxNewTokens: 3 })
  `
  t.match(await runProcess(script), { code: 0, signal: null })
})

t.test('models that nobody closed are collected', async t => {
  const script = `
    const { loadModel } = await import(${JSON.stringify(index)})
    const used = () => process.memoryUsage().rss
    const once = async () => {
      const model = await loadModel(${JSON.stringify(books)}, { kvCacheTokens: 512 })
      await model.generate('The', { maxNewTokens: 3 })
    }
    const settle = async () => { for (let i = 0; i < 4; i++) { gc(); await new Promise(r => setTimeout(r, 10)) } }
    for (let i = 0; i < 5; i++) await once()
    await settle()
    const before = used()
    for (let i = 0; i < 20; i++) { await once(); await settle() }
    await settle()
    console.log(Math.round((used() - before) / 20))
  `
  const { code, output } = await runProcess(script)
  t.equal(code, 0, output)
  // Weights alone are 14 MB; a model that stayed would show as that much each time.
  t.ok(Number(output) < 4_000_000, `${output.trim()} bytes stay behind for each model`)
})

t.test(
  'failed and closed loads leave no memory, files or threads',
  { skip: process.platform !== 'linux' && 'reads /proc' },
  async t => {
    const open = () => readdirSync('/proc/self/fd').length
    const threads = () => readdirSync('/proc/self/task').length
    const maps = () =>
      readFileSync('/proc/self/maps', 'utf8')
        .split('\n')
        .filter(line => line.includes(books)).length
    const once = async () => {
      const model = await loadModel(books, { threads: 2 })
      await model.generate('The', { maxNewTokens: 2 })
      await model.close()
      await t.rejects(loadModel(join(root, 'native')))
      await t.rejects(loadModel(books, { kvCacheTokens: 2 ** 50 }))
    }
    await once()
    const before = [open(), threads(), maps()]
    for (let i = 0; i < 10; i++) await once()
    t.same([open(), threads(), maps()], before)
  },
)

t.test(
  'loading and a first step need the weights and 10 %',
  { skip: process.platform !== 'linux' && 'reads /proc' },
  async t => {
    const directory = t.testdir()
    const { bytes } = largeCheckpoint(directory)
    const packed = join(directory, 'packed')
    const { weightBytes: packedBytes } = await convertCheckpoint(directory, packed, {
      dtype: 'int8',
    })
    const { memory } = await inspectCheckpoint(directory)
    for (const [source, dtype, weightBytes] of [
      [directory, 'float32', bytes],
      [directory, 'bfloat16', bytes / 2],
      [directory, 'int8', memory.weightBytes.int8!],
      [directory, 'int4', memory.weightBytes.int4!],
      [packed, 'auto', packedBytes],
    ] as const) {
      const script = `
      import { readFileSync } from 'node:fs'
      const { loadModel } = await import(${JSON.stringify(index)})
      const { loadBinding } = await import(${JSON.stringify(index)}.replace('index.js', 'addon/binding.js'))
      loadBinding()
      const kilobytes = name =>
        Number(readFileSync('/proc/self/status', 'utf8').split(name + ':')[1].trim().split(' ')[0])
      const before = kilobytes('VmRSS')
      const model = await loadModel(${JSON.stringify(source)}, { dtype: '${dtype}', threads: 2 })
      await model.generate([1, 2, 3], { maxNewTokens: 2 })
      console.log((kilobytes('VmHWM') - before) * 1024)
      await model.close()
    `
      const { code, output } = await runProcess(script)
      t.equal(code, 0, output)
      const peak = Number(output)
      // 16 MB beside: the JavaScript heap, what two threads have in hand, a page of the cache.
      t.ok(
        peak < 1.1 * weightBytes + 16e6,
        `${source === packed ? 'packed' : dtype}: ${peak} bytes at most for ${weightBytes} of weights`,
      )
      t.ok(peak > 0.9 * weightBytes, 'and it was measured')
    }
  },
)

t.test('what onProgress throws goes to the caller', async t => {
  let calls = 0
  const failing = loadModel(books, {
    onProgress: () => {
      calls++
      throw new Error('no more')
    },
  })
  await t.rejects(failing, { message: 'no more' })
  t.equal(calls, 1)
})

t.test('native objects refuse wrong use', async t => {
  const { Device } = loadBinding()
  t.throws(() => new Device('tpu'), { code: 'ERR_UNSUPPORTED' })
  t.throws(() => new Device('cpu', { isa: 'mmx' }), {
    code: 'ERR_UNSUPPORTED',
    message: /mmx.*scalar/,
  })
  t.throws(() => new Device('cpu', { threads: 5000 }), { code: 'ERR_UNSUPPORTED' })
  const device = new Device('cpu', { threads: 1 })
  t.throws(() => device.compile(null as never), TypeError)
  t.throws(
    () => device.compile({ buffers: [], weights: [], ops: [{}], outputs: [] } as never),
    TypeError,
  )
  t.throws(
    () =>
      device.kvCache({
        layers: 1,
        pages: 1,
        pageSize: 7,
        kvHeads: 1,
        keyDim: 8,
        valueDim: 8,
        dtype: 'f32',
      }),
    /pageSize/,
  )
  const cache = device.kvCache({
    layers: 1,
    pages: 2,
    pageSize: 16,
    kvHeads: 1,
    keyDim: 8,
    valueDim: 8,
    dtype: 'bf16',
  })
  t.throws(() => cache.readPage(0, 2), /no page 2/)
  cache.close()
  t.throws(() => cache.readPage(0, 1), { code: 'ERR_CLOSED' })
  device.close()
  t.throws(() => device.info(), { code: 'ERR_CLOSED' })
})
