/** The formats that are fuzzed in process: files that inputs start from, and their readers. */

import { type Checkpoint, openCheckpoint } from '../../lib/checkpoint/checkpoint.js'
import { packedBytes } from '../../lib/checkpoint/packed.js'
import { withTorchDtype } from '../../lib/convert/config-text.js'
import { inspectCheckpoint } from '../../lib/convert/inspect.js'
import type { MoeppErrorCode } from '../../lib/errors.js'
import { readModel } from '../../lib/families/registry.js'
import { readGenerationConfig } from '../../lib/generation/generation-config.js'
import { ChatTemplate } from '../../lib/template/chat-template.js'
import { reach } from '../../lib/tensor/tensor-file.js'
import { DTYPE_SIZE, isPacked } from '../../lib/tensor/tensor-ref.js'
import { loadTokenizer } from '../../lib/tokenizer/tokenizer.js'
import { answersFor } from './hub-answers.js'
import { MODEL, readHub } from './hub-reader.js'
import { FILE_CODES, Finding } from './oracle.js'
import type { Folder } from './seeds.js'
import * as seeds from './seeds.js'
import { stateFormat, stateSeeds } from './state.js'

const TEMPLATE_MS = 1000

/** The folder of an input. */
export interface Place {
  /** It seems to hold the files, or a hub's cache may be made in it. */
  readonly directory: string
  readonly files: Folder
}

export interface Format {
  readonly name: string
  /** Relative frequency of its choice. */
  readonly weight: number
  readonly seeds: readonly Folder[]
  /** Names of the files that are changed. */
  readonly focus: RegExp
  /** Of the errors that say that such files are bad. */
  readonly codes: readonly MoeppErrorCode[]
  /** Reads the files and checks what was read. */
  readonly read: (input: Place) => Promise<unknown>
}

export async function parserFormats(): Promise<Format[]> {
  const json = await seeds.tokenizerJsonSeeds()
  const plain = json.slice(0, 3)
  // The thread's file is looked for before inputs take the place of the file system.
  await chatTemplate(new Map([['default', '']]), 60_000).render([])
  return [
    checkpoint('safetensors', 14, mostlyFirst(seeds.SAFETENSORS)),
    checkpoint('packed safetensors', 10, await seeds.packedSeeds()),
    checkpoint('torch zip', 14, [...mostlyFirst(seeds.TORCH_ZIP), seeds.REAL_ZIP]),
    checkpoint('torch legacy', 10, [...mostlyFirst(seeds.TORCH_LEGACY), seeds.REAL_LEGACY]),
    checkpoint('shard index', 6, mostlyFirst(seeds.SHARDS)),
    ...configs(),
    tokenizer('tokenizer.json', 12, [...plain, ...plain, ...json, ...json.slice(-2)]),
    tokenizer('tokenizer.model', 10, mostlyFirst(seeds.TOKENIZER_MODEL)),
    tokenizer('tokenizer config', 8, [seeds.TOKENIZER_CONFIG]),
    {
      name: 'chat template',
      weight: 4,
      seeds: seeds.CHAT_TEMPLATES,
      focus: /\.jinja$/,
      codes: ['ERR_BAD_TEMPLATE', 'ERR_BAD_TOKENIZER', 'ERR_NO_CHAT_TEMPLATE', 'ERR_NOT_FOUND'],
      read: renderTemplate,
    },
    {
      name: 'hub',
      weight: 2,
      seeds: [answersFor(MODEL), answersFor(MODEL, { pages: true })],
      focus: /^answer (commit|tree|page|config\.json)$/,
      codes: ['ERR_HUB', 'ERR_BAD_FILE', 'ERR_UNSAFE_FILE'],
      read: readHub,
    },
    stateFormat(await stateSeeds()),
  ]
}

function checkpoint(name: string, weight: number, folders: readonly Folder[]): Format {
  return {
    name,
    weight,
    seeds: folders,
    focus: /\.index\.json$|^model\.safetensors$|^pytorch_model\.bin$/,
    codes: ['ERR_BAD_FILE', 'ERR_UNSAFE_FILE', 'ERR_NOT_FOUND'],
    read: async ({ directory, files }) => checkRefs(await openCheckpoint(directory), files),
  }
}

function tokenizer(name: string, weight: number, folders: readonly Folder[]): Format {
  return {
    name,
    weight,
    seeds: folders,
    focus: name === 'tokenizer config' ? /\.json$/ : /./,
    codes: ['ERR_BAD_TOKENIZER', 'ERR_NOT_FOUND'],
    read: checkTokenizer,
  }
}

function configs(): Format[] {
  const [config, generation] = [seeds.CONFIGS, seeds.GENERATION_CONFIGS]
  const everything = new Map([...config[0]!, ...generation[0]!, ...seeds.SAFETENSORS[1]!])
  const one = { focus: /./, codes: ['ERR_BAD_CONFIG', 'ERR_BAD_FILE'] } as const
  return [
    {
      ...one,
      name: 'config',
      weight: 8,
      seeds: config,
      codes: [...one.codes, 'ERR_UNSUPPORTED'],
      read: checkConfig,
    },
    {
      ...one,
      name: 'generation config',
      weight: 4,
      seeds: generation,
      read: ({ directory }) => readGenerationConfig(directory),
    },
    {
      name: 'inspect',
      weight: 2,
      seeds: [everything],
      focus: /./,
      codes: [...FILE_CODES, 'ERR_UNSUPPORTED'],
      read: ({ directory }) => inspectCheckpoint(directory),
    },
  ]
}

/** The last is the largest; the others are read many times as fast. */
function mostlyFirst(folders: readonly Folder[]): Folder[] {
  const first = folders.slice(0, -1)
  return [...first, ...first, ...first, ...first, ...folders]
}

/** Every reference lies within its file, and its file is one of the folder's. */
export function checkRefs(checkpoint: Checkpoint, files: Folder): void {
  for (const [name, ref] of [...checkpoint.tensors, ...checkpoint.packed]) {
    const file = ref.file.slice(checkpoint.directory.length + 1)
    const size = files.get(file)?.length
    const end = ref.byteOffset + ref.byteLength
    if (size === undefined) throw new Finding('a tensor lies in another folder')
    if (!Number.isSafeInteger(end) || ref.byteOffset < 0 || ref.byteLength < 0 || end > size)
      throw new Finding(`a tensor lies outside of its file: ${name}`)
    if (isPacked(ref)) {
      if (ref.byteOffset % 64 !== 0 || ref.byteLength !== packedBytes(ref))
        throw new Finding('a packed weight is not whole or not aligned')
      continue
    }
    const strides = ref.strides ?? contiguous(ref.shape)
    if (reach(ref.shape, strides) * DTYPE_SIZE[ref.dtype] !== ref.byteLength)
      throw new Finding('shape and strides reach other bytes than the reference says')
  }
}

function contiguous(shape: readonly number[]): number[] {
  return shape.map((_, axis) => shape.slice(axis + 1).reduce((a, b) => a * b, 1))
}

/** With a deadline below that of an input. */
const chatTemplate = (templates: ReadonlyMap<string, string>, deadlineMs = TEMPLATE_MS) =>
  new ChatTemplate({ templates, file: 'the template', tokens: {} }, deadlineMs)

async function renderTemplate({ directory }: Place): Promise<void> {
  const template = chatTemplate((await loadTokenizer(directory)).template.templates)
  const text = await template.render(seeds.MESSAGES, { addGenerationPrompt: true })
  if (typeof text !== 'string') throw new Finding('a template gives no text')
}

async function checkConfig({ directory, files }: Place): Promise<void> {
  const { config } = await readModel(directory)
  for (const key of ['vocabSize', 'hiddenSize', 'layers', 'heads', 'kvHeads', 'headDim'] as const) {
    if (!Number.isInteger(config[key]) || config[key] < 1) throw new Finding(`config: ${key}`)
  }
  withTorchDtype(files.get('config.json')!.toString(), 'bfloat16', 'config.json')
}

const TEXT = "ab <|u|> aé\n<s>\ud800\u2581 \0 abab e\u0301 12'S  x"

/** Encodes and decodes; every id is one of the vocabulary's. */
async function checkTokenizer({ directory }: Place): Promise<void> {
  const tokenizer = await loadTokenizer(directory)
  const ids = tokenizer.encode(TEXT)
  if (ids.some(id => !Number.isInteger(id) || id < 0 || id >= tokenizer.vocabSize))
    throw new Finding('encoding gives an id outside of the vocabulary')
  const text = tokenizer.decode(ids)
  if (typeof text !== 'string') throw new Finding('decoding gives no text')
  const stream = tokenizer.stream({ skipSpecialTokens: false })
  for (let id = 0; id < Math.min(tokenizer.vocabSize, 20); id++) stream.push(id)
  stream.flush()
}
