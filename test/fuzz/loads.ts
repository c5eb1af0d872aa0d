/** Whole loads: a model's folder on a disk or on a hub at 127.0.0.1, and two tokens of text. */

import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { openCheckpoint } from '../../lib/checkpoint/checkpoint.js'
import { inspectCheckpoint } from '../../lib/convert/inspect.js'
import { LIMITS } from '../../lib/hub/api.js'
import { loadModel } from '../../lib/load/load.js'
import { loadTokenizer } from '../../lib/tokenizer/tokenizer.js'
import { checkRefs, type Format, type Place } from './formats.js'
import { answerName, answersFor, REPOSITORY, splitAnswer } from './hub-answers.js'
import { fill, repeats } from './hub-fetch.js'
import { FILE_CODES, judge, type Outcome } from './oracle.js'
import { type Reader, scratch } from './readers.js'
import type { Folder } from './seeds.js'
import * as seeds from './seeds.js'

/** Damaged weights lead to ERR_DEVICE; sizes that a file claims, to ERR_OUT_OF_MEMORY. */
const CODES = [...FILE_CODES, 'ERR_DEVICE', 'ERR_OUT_OF_MEMORY'] as const
/** More than a hub's answer may have. */
const MOST_REPEATED_BYTES = 20_000_000
/** Time of a hub's answer. */
const HUB_MS = 1000
const OPTIONS = { device: 'cpu', threads: 1, kvCacheTokens: 64, contextLength: 64 } as const

export async function loadFormats(): Promise<Format[]> {
  const json = await seeds.tokenizerJsonSeeds()
  const configs = [...seeds.CONFIGS[0]!, ...seeds.GENERATION_CONFIGS[0]!]
  const withSpecials = [...seeds.TOKENIZER_CONFIG, ...seeds.TOKENIZER_MODEL[1]!]
  const tokenizers = [...json.map(folder => [...folder]), withSpecials, []]
  const format = (
    name: string,
    weight: number,
    weights: readonly Folder[],
    focus = /^(?!config|generation)/,
  ): Format => ({
    name,
    weight,
    seeds: weights.flatMap(folder =>
      tokenizers.map(files => new Map([...folder, ...configs, ...files])),
    ),
    focus,
    codes: CODES,
    read: loadAndGenerate,
  })
  const packed = await seeds.packedSeeds()
  const small = new Map([...seeds.SAFETENSORS[1]!, ...configs, ...seeds.TOKENIZER_MODEL[0]!])
  return [
    format('safetensors', 4, [seeds.SAFETENSORS[1]!]),
    format('packed safetensors', 4, packed),
    format('torch zip', 4, [seeds.TORCH_ZIP[2]!]),
    format('torch legacy', 3, [seeds.TORCH_LEGACY[1]!]),
    format('shard index', 3, [seeds.SHARDS[2]!]),
    format('config', 2, [seeds.SAFETENSORS[1]!], /config\.json$/),
    {
      name: 'hub',
      weight: 2,
      seeds: [
        answersFor(small),
        answersFor(small, { pages: true }),
        answersFor(small, { compressed: true }),
      ],
      focus: /./,
      codes: [...CODES, 'ERR_HUB'],
      read: async () => {},
    },
  ]
}

async function loadAndGenerate({ directory, files }: Place): Promise<void> {
  await attempt(openCheckpoint(directory).then(checkpoint => checkRefs(checkpoint, files)))
  await attempt(inspectCheckpoint(directory))
  await attempt(loadTokenizer(directory))
  const model = await loadModel(directory, OPTIONS)
  try {
    await model.generate([0], { maxNewTokens: 2 })
    if (model.tokenizer) await model.generate('ab aé', { maxNewTokens: 2, temperature: 0 })
  } finally {
    await model.close()
  }
}

/** A refusal ends only this; judge looks at anything else. */
async function attempt(reading: Promise<unknown>): Promise<void> {
  await reading.catch((error: unknown) => {
    if (!(error instanceof Error) || error.name !== 'MoeppError') throw error
  })
}

export class LoadReader implements Reader {
  readonly #root = scratch()
  #answers: Folder = new Map()
  #requests = 0
  readonly #hub: Server
  #endpoint = ''

  private constructor() {
    this.#hub = createServer(socket => {
      socket.on('error', () => {})
      let asked = ''
      socket.on('data', data => {
        asked += data.toString('latin1')
        if (!asked.includes('\r\n\r\n')) return
        const path = /^GET (\S+)/.exec(asked)?.[1] ?? '/'
        asked = ''
        this.#answer(path, bytes => socket.write(bytes))
        socket.end()
      })
    })
  }

  static async start(): Promise<LoadReader> {
    // Damaged gzip takes all of the time.
    LIMITS.milliseconds = HUB_MS
    const reader = new LoadReader()
    await new Promise<void>(done => reader.#hub.listen(0, '127.0.0.1', done))
    const address = reader.#hub.address()
    reader.#endpoint = `http://127.0.0.1:${typeof address === 'object' ? address?.port : 0}`
    return reader
  }

  async run(format: Format, files: Folder): Promise<Outcome> {
    const directory = join(this.#root, 'model')
    const codes = new Set(format.codes)
    try {
      if (format.name === 'hub') {
        this.#answers = files
        const options = { ...OPTIONS, endpoint: this.#endpoint, token: 'x', cacheDir: directory }
        return await judge(async () => (await loadModel(REPOSITORY, options)).close(), codes)
      }
      mkdirSync(directory)
      for (const [name, bytes] of files) writeFileSync(join(directory, name), bytes)
      return await judge(() => format.read({ directory, files }), codes)
    } finally {
      rmSync(directory, { recursive: true, force: true })
    }
  }

  close(): void {
    this.#hub.close()
    rmSync(this.#root, { recursive: true, force: true })
  }

  /** Closes the connection afterwards, so that a response without a length has an end. */
  #answer(path: string, send: (bytes: Buffer) => void): void {
    const bytes = this.#answers.get(answerName(path))
    if (!bytes) {
      send(Buffer.from('HTTP/1.1 404 x\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}'))
      return
    }
    const filled = fill(bytes, this.#endpoint, ++this.#requests)
    const answer = splitAnswer(filled)
    const more = answer.body.length * (repeats(answer) - 1)
    // The number may be damaged.
    const length = Math.max(0, Math.min(MOST_REPEATED_BYTES, more || 0))
    send(Buffer.concat([filled, Buffer.alloc(length, answer.body)]))
  }
}
