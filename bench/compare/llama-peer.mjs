// llama.cpp's side of llama.mjs, in a process of its own: it answers messages.
import { tokenAt } from '../../dist/benchmark/sequences.js'
import { load } from './packages.mjs'

/** Its key begins with the architecture. */
function vocabSizeOf({ fileInfo: { metadata } }) {
  return metadata[metadata.general.architecture].vocab_size
}

class Llama {
  static async create(model, flashAttention, { threads, contextLength }) {
    const context = await model.createContext({
      sequences: 1,
      contextSize: contextLength + 64,
      batchSize: 512,
      flashAttention,
      threads,
      ignoreMemorySafetyChecks: true,
    })
    return new Llama(context, vocabSizeOf(model))
  }

  constructor(context, vocabSize) {
    this.context = context
    this.sequence = context.getSequence()
    this.vocabSize = vocabSize
  }

  #tokens(from, to) {
    return Array.from({ length: to - from }, (_, i) => tokenAt(0, from + i, this.vocabSize))
  }

  /**
   * A generator gives the likeliest token after all before it, and takes the token that is to come
   * instead. Of the fixed tokens, those that the cache holds are not computed again.
   */
  async #start(tokens) {
    const end = this.sequence.nextTokenIndex
    const start = Math.min(end, tokens - 1)
    if (start < end) await this.sequence.eraseContextTokenRanges([{ start, end }])
    return this.sequence.evaluate(this.#tokens(start, tokens), {
      temperature: 0,
      yieldEogToken: true,
    })
  }

  async prefill(tokens) {
    await this.sequence.clearHistory()
    const generator = await this.#start(tokens)
    const started = performance.now()
    await generator.next()
    const ms = performance.now() - started
    await generator.return()
    return ms
  }

  async decode(context, tokens) {
    const generator = await this.#start(context)
    await generator.next()
    const forced = this.#tokens(context, context + tokens)
    const likeliest = []
    const started = performance.now()
    for (const token of forced) likeliest.push((await generator.next(token)).value)
    const ms = performance.now() - started
    await generator.return()
    return { ms, likeliest }
  }
}

/** Loads the model, and returns the instructions that are used. */
async function loadModel({ path, ...options }) {
  const { getLlama, LlamaLogLevel } = await load('node-llama-cpp')
  const llama = await getLlama({
    gpu: false,
    build: 'never',
    skipDownload: true,
    maxThreads: options.threads,
    progressLogs: false,
    logLevel: LlamaLogLevel.error,
  })
  const model = await llama.loadModel({
    modelPath: path,
    gpuLayers: 0,
    useMmap: false,
    ignoreMemorySafetyChecks: true,
  })
  sides.set(false, await Llama.create(model, false, options))
  sides.set(true, await Llama.create(model, true, options))
  return llama.systemInfo.trim()
}

/** By flash attention. */
const sides = new Map()

const METHODS = {
  load: loadModel,
  prefill: ({ flashAttention, tokens }) => sides.get(flashAttention).prefill(tokens),
  decode: ({ flashAttention, context, tokens }) =>
    sides.get(flashAttention).decode(context, tokens),
}

if (process.send) {
  process.on('message', async ({ method, options }) => {
    try {
      process.send({ result: await METHODS[method](options) })
    } catch (error) {
      process.send({ error: error.stack })
    }
  })
  process.on('disconnect', () => process.exit())
}
