/**
 * Small random checkpoints: a valid configuration, weights that keep activations and routing
 * lively, and its files.
 */
import { pickleBytes, pickled, safetensorsBytes, torchZip } from '../checkpoint/files.js'
import { type ReferenceConfig, referenceConfig, type Weights } from './model-f64.js'

/** Numbers that a seed decides. */
export class Random {
  #state: number

  constructor(seed: number) {
    this.#state = Math.imul(seed, 0x9e3779b1) ^ 0x5bd1e995
  }

  /** From 0 up to 1. */
  unit(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0
    let x = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1)
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61)
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32
  }

  /** An integer, both ends included. */
  integer(from: number, to: number): number {
    return from + Math.floor(this.unit() * (to - from + 1))
  }

  chance(probability: number): boolean {
    return this.unit() < probability
  }

  pick<T>(items: readonly T[]): T {
    return items[this.integer(0, items.length - 1)]!
  }

  normal(): number {
    return Math.sqrt(-2 * Math.log(1 - this.unit())) * Math.cos(2 * Math.PI * this.unit())
  }

  ids(length: number, vocab: number): number[] {
    return Array.from({ length }, () => this.integer(0, vocab - 1))
  }

  shuffled<T>(items: readonly T[]): T[] {
    const list = [...items]
    for (let i = list.length - 1; i > 0; i--) {
      const j = this.integer(0, i)
      ;[list[i], list[j]] = [list[j]!, list[i]!]
    }
    return list
  }
}

export type StoredType = 'f32' | 'f16' | 'bf16'

export interface RandomCheckpoint {
  /** As in config.json. */
  readonly config: Readonly<Record<string, unknown>>
  readonly reference: ReferenceConfig
  /** The files' values, rounded to the stored types. */
  readonly weights: Weights
  readonly files: Record<string, Buffer | string>
  /** In a few words. */
  readonly description: string
}

/** `forced` keys replace what the seed would choose. */
export function randomCheckpoint(
  seed: number,
  forced: Record<string, unknown> = {},
): RandomCheckpoint {
  const random = new Random(seed)
  const config = { ...randomConfig(random), ...forced }
  const reference = referenceConfig(config)
  const storage = random.pick<StoredType | 'mixed'>(['f32', 'f32', 'f16', 'bf16', 'bf16', 'mixed'])
  const tensors = randomTensors(random, reference, storage)
  const format = random.pick(['safetensors', 'safetensors-sharded', 'bin', 'bin-sharded'] as const)
  const extra = ignoredTensors(random, reference)
  return {
    config,
    reference,
    weights: new Map(tensors.map(tensor => [tensor.name, tensor.values])),
    files: {
      'config.json': JSON.stringify(config),
      ...weightFiles(random, format, [...tensors, ...extra]),
    },
    description: `${storage} ${format} ${JSON.stringify(config)}`,
  }
}

// Configurations

const HEAD_DIMS = [2, 4, 6, 8, 10, 12, 16, 18, 24, 32, 34, 48, 64, 66, 80, 96, 100, 128]

function randomConfig(random: Random): Record<string, unknown> {
  const headDim = random.pick(HEAD_DIMS)
  const heads = random.integer(1, Math.max(1, Math.min(8, Math.floor(144 / headDim))))
  const kvHeads = random.pick(divisors(heads))
  const vocab = random.integer(5, 301)
  const scaling = random.pick([null, 'linear', 'ntk', 'dynamic', 'dynamic'])
  const slices = random.pick(divisors(vocab).filter(n => (kvHeads * headDim) % n === 0))
  const config: Record<string, unknown> = {
    vocab_size: vocab,
    hidden_size: heads * headDim,
    intermediate_size: random.pick([1, random.integer(2, 40), random.integer(2, 80)]),
    num_hidden_layers: random.integer(1, 4),
    num_attention_heads: heads,
    num_key_value_heads: kvHeads,
    max_position_embeddings: random.pick([random.integer(1, 12), random.integer(8, 40), 2048]),
    rms_norm_eps: random.pick([1e-6, 1e-5, 1e-3]),
    rope_theta: random.pick([10000, 10000, 1000, 500000]),
    rope_scaling: scaling && { type: scaling, factor: random.pick([1.25, 2, 4, 8.5]) },
    tie_word_embeddings: random.chance(0.3),
    num_experts: [random.pick([4, 5, random.integer(4, 12), random.integer(6, 40)])],
    moe_use_mixtral_gating: random.chance(0.3),
    moe_2layer_gate: random.chance(0.4),
    moe_use_logits_norm: random.chance(0.5),
    moe_gate_norm_std: random.pick([1, 1, 0.5, 2.5]),
    moe_feature_no_mul_topk: random.chance(0.5),
    pretraining_tp: random.chance(0.3) ? slices : 1,
  }
  return withoutDefaults(random, config)
}

function divisors(value: number): number[] {
  return Array.from({ length: value }, (_, i) => i + 1).filter(n => value % n === 0)
}

const DEFAULTS: Readonly<Record<string, unknown>> = {
  max_position_embeddings: 2048,
  rms_norm_eps: 1e-6,
  rope_theta: 10000,
  rope_scaling: null,
  tie_word_embeddings: false,
  moe_use_mixtral_gating: false,
  moe_2layer_gate: true,
  moe_use_logits_norm: false,
  moe_gate_norm_std: 1,
  moe_feature_no_mul_topk: false,
  pretraining_tp: 1,
}

/** Leaves out some of the keys whose value is the default, and adds some that change nothing. */
function withoutDefaults(random: Random, config: Record<string, unknown>): Record<string, unknown> {
  for (const [key, value] of Object.entries(DEFAULTS)) {
    if (config[key] === value && random.chance(0.5)) delete config[key]
  }
  if (config.num_key_value_heads === config.num_attention_heads && random.chance(0.5)) {
    if (random.chance(0.5)) delete config.num_key_value_heads
    else config.num_key_value_heads = null
  }
  if (random.chance(0.3))
    Object.assign(config, { model_type: 'MoE++', hidden_act: 'silu', use_cache: true })
  if (random.chance(0.3)) Object.assign(config, { sliding_window: 64, rotary_percent: 0.5 })
  if (random.chance(0.2)) config.num_experts = [...(config.num_experts as number[]), 77]
  return config
}

// Weights

interface Stored {
  readonly name: string
  readonly shape: readonly number[]
  /** f64 and i64 are only for tensors that are ignored. */
  readonly type: StoredType | 'f64' | 'i64'
  readonly values: Float64Array
  readonly bytes: Buffer
}

function randomTensors(
  random: Random,
  c: ReferenceConfig,
  storage: StoredType | 'mixed',
): Stored[] {
  const tensors: Stored[] = []
  /**
   * Values of mean 0 and the deviation `scale`; 1 in 30 is tiny, so that subnormal halves occur.
   */
  const add = (name: string, shape: readonly number[], scale: number, mean = 0) => {
    const type = storage === 'mixed' ? random.pick(['f32', 'f16', 'bf16'] as const) : storage
    const draw = () => (mean + scale * random.normal()) * (random.chance(1 / 30) ? 2 ** -18 : 1)
    tensors.push(stored(name, shape, type, draw))
  }
  const { hidden: H, experts: E, headDim } = c
  const fan = 1 / Math.sqrt(H)
  add('model.embed_tokens.weight', [c.vocab, H], random.pick([0.5, 1]))
  // With the last, without logits norm, the largest probability of a softmax leaves others nothing.
  const router = random.pick([0.7, 0.7, 1.5, 1.5, 3, 60])
  for (let layer = 0; layer < c.layers; layer++) {
    const prefix = `model.layers.${layer}`
    add(`${prefix}.input_layernorm.weight`, [H], 0.2, 1)
    add(`${prefix}.self_attn.q_proj.weight`, [H, H], 1.2 * fan)
    add(`${prefix}.self_attn.k_proj.weight`, [c.kvHeads * headDim, H], 1.2 * fan)
    add(`${prefix}.self_attn.v_proj.weight`, [c.kvHeads * headDim, H], fan)
    add(`${prefix}.self_attn.o_proj.weight`, [H, H], 0.8 * fan)
    add(`${prefix}.post_attention_layernorm.weight`, [H], 0.2, 1)
    const gate = `${prefix}.mlp.moe.gate`
    if (c.twoLayerRouter) {
      add(`${gate}.wg.0.weight`, [8 * E, H], fan)
      add(`${gate}.wg.2.weight`, [E, 8 * E], (1.6 * router) / Math.sqrt(8 * E))
    } else add(`${gate}.wg.weight`, [E, H], router * fan)
    // Layer 0's is never used: large values would show.
    add(`${gate}.gate_map.weight`, [E, E], layer === 0 ? 1000 : 0.7 / Math.sqrt(E))
    for (let e = 0; e < E - 4; e++) {
      const expert = `${prefix}.mlp.moe.experts.experts.${e}`
      add(`${expert}.up_proj.weight`, [2 * c.intermediate, H], (c.doubled ? 0.7 : 1.3) * fan)
      add(`${expert}.down_proj.weight`, [H, c.intermediate], 1 / Math.sqrt(c.intermediate))
    }
    for (const e of [E - 4, E - 3]) {
      add(`${prefix}.mlp.moe.experts.experts.${e}.wg.weight`, [2, H], fan)
      add(`${prefix}.mlp.moe.experts.experts.${e}.constant`, [H], 0.8)
    }
  }
  add('model.norm.weight', [H], 0.2, 1)
  // If the embedding is the head, a stored head is ignored.
  if (!c.tied || random.chance(0.3)) add('lm_head.weight', [c.vocab, H], 2 * fan)
  return tensors
}

/** Tensors that the model does not have. */
function ignoredTensors(random: Random, { layers, headDim }: ReferenceConfig): Stored[] {
  if (random.chance(0.5)) return []
  const extra: Stored[] = []
  for (let layer = 0; layer < layers; layer++) {
    const name = `model.layers.${layer}.self_attn.rotary_emb.inv_freq`
    extra.push(stored(name, [headDim / 2], 'f32', () => 7))
  }
  const others = [
    'model.layers.99.mlp.moe.gate.wg.weight',
    'model.steps',
    'model.mean',
    'model.empty',
  ]
  const [layer99, steps, mean, empty] = others as [string, string, string, string]
  extra.push(stored(layer99, [3, 2], 'f16', () => NaN))
  extra.push(stored(steps, [], 'i64', () => 1))
  extra.push(stored(mean, [1, 3], 'f64', () => Math.PI))
  extra.push(stored(empty, [0, 4], 'f32', () => 1))
  return extra
}

const WIDTH = { f32: 4, f16: 2, bf16: 2, f64: 8, i64: 8 } as const

function stored(
  name: string,
  shape: readonly number[],
  type: Stored['type'],
  draw: () => number,
): Stored {
  const count = shape.reduce((a, b) => a * b, 1)
  const values = new Float64Array(count)
  const bytes = Buffer.alloc(count * WIDTH[type])
  for (let i = 0; i < count; i++) values[i] = store(bytes, i, type, draw())
  return { name, shape, type, values, bytes }
}

/** Writes the i-th element and returns what was written. */
function store(bytes: Buffer, i: number, type: Stored['type'], value: number): number {
  if (type === 'f64') bytes.writeDoubleLE(value, 8 * i)
  else if (type === 'i64') bytes.writeBigInt64LE(BigInt(value), 8 * i)
  else if (type === 'f32') bytes.writeFloatLE(value, 4 * i)
  else {
    const [fraction, bias] = type === 'f16' ? [10, 15] : [7, 127]
    const { bits, rounded } = shortFloat(value, fraction, bias)
    bytes.writeUInt16LE(bits, 2 * i)
    return rounded
  }
  return type === 'f32' ? Math.fround(value) : value
}

/** The nearest float of 16 bits, ties to even; too large a value is not asked for. */
function shortFloat(value: number, fractionBits: number, bias: number) {
  const sign = value < 0 ? 0x8000 : 0
  const infinity = ((2 * bias + 1) << fractionBits) | sign
  if (Number.isNaN(value)) return { bits: infinity | 1, rounded: NaN }
  const exponent = Math.max(Math.floor(Math.log2(Math.abs(value) || 2 ** -bias)), 1 - bias)
  const unit = 2 ** (exponent - fractionBits)
  const scaled = Math.abs(value) / unit
  const floor = Math.floor(scaled)
  const up = scaled - floor > 0.5 || (scaled - floor === 0.5 && floor % 2 === 1)
  const mantissa = floor + (up ? 1 : 0)
  // A mantissa of 2^(fractionBits + 1) carries into the exponent; below 2^fractionBits the float is
  // subnormal.
  const bits = sign | (mantissa + ((exponent + bias - 1) << fractionBits))
  return { bits, rounded: (sign ? -1 : 1) * mantissa * unit }
}

// Files

type Format = 'safetensors' | 'safetensors-sharded' | 'bin' | 'bin-sharded'

function weightFiles(
  random: Random,
  format: Format,
  tensors: readonly Stored[],
): Record<string, Buffer | string> {
  const isBin = format.startsWith('bin')
  const write = (part: readonly Stored[]) =>
    isBin ? binFile(random, part) : safetensorsFile(random, part)
  const shuffled = random.shuffled(tensors)
  const name = isBin ? 'pytorch_model' : 'model'
  const ending = isBin ? 'bin' : 'safetensors'
  if (!format.endsWith('sharded')) return { [`${name}.${ending}`]: write(shuffled) }
  const shards = random.integer(1, 3)
  const files: Record<string, Buffer | string> = {}
  const weightMap: Record<string, string> = {}
  for (let s = 0; s < shards; s++) {
    const file = `${name}-0000${s + 1}-of-0000${shards}.${ending}`
    const part = shuffled.filter((_, i) => i % shards === s)
    for (const tensor of part) weightMap[tensor.name] = file
    files[file] = write(part)
  }
  const total = tensors.reduce((sum, tensor) => sum + tensor.bytes.length, 0)
  files[`${name}.${ending}.index.json`] = JSON.stringify({
    metadata: { total_size: total },
    weight_map: weightMap,
  })
  return files
}

function safetensorsFile(random: Random, tensors: readonly Stored[]): Buffer {
  const header: Record<string, unknown> = random.chance(0.5)
    ? { __metadata__: { format: 'pt' } }
    : {}
  let offset = 0
  for (const { name, shape, type, bytes } of tensors) {
    header[name] = {
      dtype: type.toUpperCase(),
      shape,
      data_offsets: [offset, offset + bytes.length],
    }
    offset += bytes.length
  }
  // The format's writers pad the header to 8 bytes; its readers must not need it.
  const text = JSON.stringify(header) + ' '.repeat(random.integer(0, 7))
  return safetensorsBytes(text, Buffer.concat(tensors.map(tensor => tensor.bytes)))
}

const STORAGES = {
  f32: 'FloatStorage',
  f16: 'HalfStorage',
  bf16: 'BFloat16Storage',
  f64: 'DoubleStorage',
  i64: 'LongStorage',
}

/** Some tensors lie in a storage behind other elements, and some matrices lie transposed. */
function binFile(random: Random, tensors: readonly Stored[]): Buffer {
  const storages: Record<string, Buffer> = {}
  const items: Buffer[] = []
  for (const [i, { name, shape, type, bytes }] of tensors.entries()) {
    const width = WIDTH[type]
    const offset = random.chance(0.2) ? random.integer(1, 9) : 0
    const isTransposed = shape.length === 2 && random.chance(0.2)
    const content = isTransposed ? transposed(bytes, shape, width) : bytes
    const storage = Buffer.concat([Buffer.alloc(offset * width, 0x3f), content])
    const key = String(i * 3)
    storages[key] = storage
    items.push(
      pickled.text(name),
      pickled.tensor({
        key,
        type: STORAGES[type],
        length: storage.length / width,
        offset,
        shape: [...shape],
        ...(isTransposed && { strides: [1, shape[0]!] }),
      }),
    )
  }
  return torchZip(pickleBytes(pickled.dict(...items)), storages)
}

function transposed(bytes: Buffer, shape: readonly number[], width: number): Buffer {
  const [rows, columns] = shape as [number, number]
  const out = Buffer.alloc(bytes.length)
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) {
      bytes.copy(
        out,
        (c * rows + r) * width,
        (r * columns + c) * width,
        (r * columns + c + 1) * width,
      )
    }
  }
  return out
}
