/** The files that inputs start from: small and valid. */

import { readFileSync } from 'node:fs'
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { convertCheckpoint } from '../../lib/convert/convert.js'
import { storedTensors } from '../../lib/families/record.js'
import { describeModel } from '../../lib/families/registry.js'
import { BYTE_LETTERS } from '../../lib/tokenizer/byte-letters.js'
import { loadTokenizer } from '../../lib/tokenizer/tokenizer.js'
import { WORD_RULES } from '../../lib/tokenizer/words.js'
import { pickleBytes, pickled, safetensorsBytes, torchZip } from '../checkpoint/files.js'
import { type Family, goldenCase } from '../support/golden.js'
import { basePieces, normal, writeModel } from '../tokenizer/model-proto.js'

export type Folder = ReadonlyMap<string, Buffer>

const json = (value: unknown) => Buffer.from(JSON.stringify(value))

/** Vocabulary of 280, which the tokenizers below stay within. */
export const CONFIG = {
  model_type: 'MoE++',
  vocab_size: 280,
  hidden_size: 8,
  intermediate_size: 8,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  num_experts: [5],
  moe_2layer_gate: false,
  moe_use_logits_norm: true,
  moe_gate_norm_std: 1.0,
  rope_scaling: { type: 'dynamic', factor: 2.0 },
  tie_word_embeddings: true,
  torch_dtype: 'float32',
  bos_token_id: 1,
  eos_token_id: [2],
  pad_token_id: null,
  architectures: ['MoeForCausalLM'],
}

export const GENERATION_CONFIG = {
  bos_token_id: 1,
  eos_token_id: 2,
  pad_token_id: 0,
  do_sample: true,
  temperature: 0.9,
  top_k: 20,
  top_p: 0.9,
  min_p: 0.01,
  typical_p: 0.9,
  repetition_penalty: 1.1,
  no_repeat_ngram_size: 3,
  max_new_tokens: 4,
  min_new_tokens: 1,
  num_return_sequences: 1,
}

interface Tensor {
  readonly name: string
  readonly shape: readonly number[]
  readonly bytes: Buffer
}

/** Numbers from -0.5 to 0.5 that repeat, so that findings compress. */
function tensors(count = Infinity): Tensor[] {
  const all = storedTensors(describeModel(CONFIG, 'seed')).slice(0, count)
  return all.map(({ name, shape }) => {
    const length = shape.reduce((a, b) => a * b, 1)
    const values = Float32Array.from({ length }, (_, i) => ((i * 7) % 32) / 32 - 0.5)
    return { name, shape, bytes: Buffer.from(values.buffer) }
  })
}

function safetensors(list: readonly Tensor[], metadata?: unknown): Buffer {
  let end = 0
  const entries = list.map(({ name, shape, bytes }) => {
    const begin = end
    end += bytes.length
    return [name, { dtype: 'F32', shape, data_offsets: [begin, end] }]
  })
  const header = { ...(metadata ? { __metadata__: metadata } : {}), ...Object.fromEntries(entries) }
  return safetensorsBytes(header, Buffer.concat(list.map(({ bytes }) => bytes)))
}

function stateDict(list: readonly Tensor[]): Buffer {
  const items = list.flatMap(({ name, shape, bytes }, i) => [
    pickled.text(name),
    pickled.tensor({ key: String(i), length: bytes.length / 4, shape: [...shape] }),
  ])
  return pickled.dict(...items)
}

function zip(list: readonly Tensor[], zip64 = false): Buffer {
  const storages = Object.fromEntries(list.map(({ bytes }, i) => [String(i), bytes]))
  return torchZip(pickleBytes(stateDict(list)), storages, { zip64 })
}

function legacy(list: readonly Tensor[]): Buffer {
  const long = (hex: string) =>
    Buffer.from(`8a${(hex.length / 2).toString(16).padStart(2, '0')}${hex}`, 'hex')
  const keys = list.map((_, i) => pickled.text(String(i)))
  return Buffer.concat([
    pickleBytes(long('6cfc9c46f9206aa85019')),
    pickleBytes(pickled.integer(1001)),
    pickleBytes(pickled.dict(pickled.text('little_endian'), Buffer.from([0x88]))),
    pickleBytes(stateDict(list)),
    pickleBytes(Buffer.concat([Buffer.from(']('), ...keys, Buffer.from('e')])),
    ...list.flatMap(({ bytes }) => {
      const count = Buffer.alloc(8)
      count.writeBigInt64LE(BigInt(bytes.length / 4))
      return [count, bytes]
    }),
  ])
}

function shards(list: readonly Tensor[], format: 'safetensors' | 'bin'): Folder {
  const half = Math.ceil(list.length / 2)
  const name = (i: number) =>
    format === 'bin' ? `pytorch_model-0000${i}-of-00002.bin` : `model-0000${i}-of-00002.safetensors`
  const index = format === 'bin' ? 'pytorch_model.bin.index.json' : 'model.safetensors.index.json'
  const write = format === 'bin' ? zip : safetensors
  const map = Object.fromEntries(list.map((tensor, i) => [tensor.name, name(i < half ? 1 : 2)]))
  return new Map([
    [index, json({ metadata: { total_size: 1 }, weight_map: map })],
    [name(1), write(list.slice(0, half))],
    [name(2), write(list.slice(half))],
  ])
}

/** As torch itself wrote it. */
const real = (name: string): Folder =>
  new Map([['pytorch_model.bin', readFileSync(join(goldenCase(name), 'pytorch_model.bin'))]])

const few = tensors(4)
const all = tensors()

export const SAFETENSORS: readonly Folder[] = [few, all].map(
  list => new Map([['model.safetensors', safetensors(list, { format: 'pt' })]]),
)
export const TORCH_ZIP: readonly Folder[] = [
  new Map([['pytorch_model.bin', zip(few)]]),
  new Map([['pytorch_model.bin', zip(few.slice(0, 1), true)]]),
  new Map([['pytorch_model.bin', zip(all)]]),
]
export const TORCH_LEGACY: readonly Folder[] = [few, all].map(
  list => new Map([['pytorch_model.bin', legacy(list)]]),
)
export const REAL_ZIP = real('tied-bin')
export const REAL_LEGACY = real('n12-legacy')
export const SHARDS: readonly Folder[] = [
  shards(few, 'safetensors'),
  shards(few, 'bin'),
  shards(all, 'safetensors'),
]

/** The whole model as int8 and int4. */
export async function packedSeeds(): Promise<Folder[]> {
  const root = await mkdtemp(join(tmpdir(), 'moepp-fuzz-'))
  try {
    await writeFile(join(root, 'config.json'), json(CONFIG))
    await writeFile(join(root, 'model.safetensors'), safetensors(all))
    const folders: Folder[] = []
    for (const dtype of ['int8', 'int4'] as const) {
      const target = join(root, dtype)
      await convertCheckpoint(root, target, { dtype })
      const names = (await readdir(target)).filter(name => name.endsWith('.safetensors'))
      folders.push(new Map(names.map(name => [name, readFileSync(join(target, name))])))
    }
    return folders
  } finally {
    await rm(root, { recursive: true })
  }
}

const TEXTS = ['a', 'b', 'ab', 'ba', '\u2581', '\u2581a', '\u2581ab', 'é', 'aba']

function proto(bytes: boolean): Buffer {
  const pieces = [
    ...(bytes ? basePieces : basePieces.slice(0, 3)),
    ...TEXTS.map((text, i) => normal(text, -(i >> 1))),
    { text: '<|u|>', type: 4 },
  ]
  return Buffer.from(writeModel({ pieces, trainer: { 35: Number(bytes) } }))
}

export const TOKENIZER_MODEL: readonly Folder[] = [false, true].map(
  bytes => new Map([['tokenizer.model', proto(bytes)]]),
)

const token = (content: string) => ({ content, lstrip: false, rstrip: false, special: true })

export const TOKENIZER_CONFIG: Folder = new Map([
  ['tokenizer.model', proto(false)],
  [
    'tokenizer_config.json',
    json({
      add_bos_token: true,
      add_eos_token: false,
      add_prefix_space: true,
      legacy: false,
      bos_token: token('<s>'),
      eos_token: '</s>',
      unk_token: '<unk>',
      pad_token: null,
      additional_special_tokens: ['<x>', token('<y>')],
      added_tokens_decoder: { 0: token('<unk>'), 1: token('<s>'), 13: token('<x>') },
      chat_template: [{ name: 'default', template: '{{ messages }}' }],
    }),
  ],
  ['special_tokens_map.json', json({ bos_token: '<s>', eos_token: token('</s>') })],
  ['added_tokens.json', json({ '<x>': 13, '<y>': 14 })],
])

export const CHAT_TEMPLATES: readonly Folder[] = [
  `{%- for message in messages %}
    {{- '<|' + message.role + '|>\n' + message.content | trim }}
    {%- if not loop.last %}{{ '\n' }}{% endif %}
{%- endfor %}
{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}`,
  `{% macro one(x, n=2) %}{% for i in range(n) %}{{ x | tojson(indent=2) }}{% endfor %}{% endmacro %}
{% set ns = namespace(last='', count=0) %}
{% for m in messages[::-1] if m.role in ['user', 'assistant'] %}
  {% set ns.last = ns.last ~ m['content'].split(' ')[0].upper() %}
  {% set ns.count = ns.count + loop.index0 * 2 %}
  {{ one(m, n=ns.count % 3) }}{{ m.calls | default([]) | map(attribute='name') | join(', ') }}
{% else %}{{ raise_exception('no messages') }}{% endfor %}
{{ ns.last if ns.count > 1 else none }}{{ messages | selectattr('role', 'equalto', 'user') | list }}`,
].map(
  template =>
    new Map([
      ['tokenizer.model', proto(false)],
      ['chat_template.jinja', Buffer.from(template)],
      ['additional_chat_templates/tool_use.jinja', Buffer.from('{{ tools }}')],
    ]),
)

/** A template's messages. */
export const MESSAGES = [
  { role: 'system', content: 'Be brief.' },
  { role: 'user', content: 'Hello there' },
  { role: 'assistant', content: 'Hi', calls: [{ name: 'f', arguments: { x: [1, 2.5, null] } }] },
]

const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false }

/** As Qwen and GPT-2 have it. */
function byteLevelSeeds(): unknown[] {
  const merges = ['a b', 'ab a', 'Ġ a', 'Ġa b', 'Ã ©']
  const texts = [...BYTE_LETTERS, ...merges.map(merge => merge.replace(' ', ''))]
  const vocab = Object.fromEntries(texts.map((text, id) => [text, id]))
  const step = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false }
  const [, pattern] = WORD_RULES.keys()
  const split = {
    type: 'Split',
    pattern: { Regex: pattern },
    behavior: 'Isolated',
    invert: false,
  }
  const qwen = {
    version: '1.0',
    added_tokens: [
      { ...flags, id: 270, content: '<s>', special: true },
      { ...flags, id: 271, content: '<|u|>', lstrip: true, single_word: true },
      { ...flags, id: 272, content: 'aé', rstrip: true, normalized: true },
    ],
    normalizer: { type: 'NFC' },
    pre_tokenizer: { type: 'Sequence', pretokenizers: [split, { ...step, use_regex: false }] },
    post_processor: step,
    decoder: step,
    model: { type: 'BPE', unk_token: null, ignore_merges: false, vocab, merges },
  }
  const gpt2 = { ...qwen, normalizer: null, pre_tokenizer: step, post_processor: null }
  return [qwen, { ...gpt2, model: { ...qwen.model, ignore_merges: true } }]
}

/**
 * As moepp writes them, with and without its own key; as other tools do, with a Metaspace, and of
 * bytes.
 */
export async function tokenizerJsonSeeds(): Promise<Folder[]> {
  const root = await mkdtemp(join(tmpdir(), 'moepp-fuzz-'))
  try {
    const found: unknown[] = []
    for (const bytes of [false, true]) {
      await writeFile(join(root, 'tokenizer.model'), proto(bytes))
      const own = (await loadTokenizer(root)).toJSON()
      const { sentencepiece, ...model } = own.model
      const step = {
        type: 'Metaspace',
        replacement: '\u2581',
        prepend_scheme: 'first',
        split: false,
      }
      const plain = { ...own, model }
      found.push(own, plain, { ...plain, normalizer: null, pre_tokenizer: step, decoder: step })
    }
    found.push(...byteLevelSeeds())
    return found.map(value => new Map([['tokenizer.json', json(value)]]))
  } finally {
    await rm(root, { recursive: true })
  }
}

function configOf(name: string, family?: Family): unknown {
  return JSON.parse(readFileSync(join(goldenCase(name, family), 'config.json'), 'utf8'))
}

export const CONFIGS: readonly Folder[] = [
  CONFIG,
  ...['tied-bin', 'gqa', 'rope-ntk', 'pretraining-tp2'].map(name => configOf(name)),
  configOf('rope-yarn-factors', 'qwen3_moe'),
  configOf('dense-tied', 'qwen3_moe_plus_plus'),
  configOf('sliding-headdim', 'mixtral'),
].map(config => new Map([['config.json', json(config)]]))

export const GENERATION_CONFIGS: readonly Folder[] = [
  new Map([['generation_config.json', json(GENERATION_CONFIG)]]),
]
