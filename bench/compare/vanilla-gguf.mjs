// The vanilla twin of a synthetic checkpoint as a GGUF file: the same weights, so that both sides
// compute the same function.
//
//   node bench/compare/vanilla-gguf.mjs [7b | qwen3-30b-a3b | mixtral-8x7b | glm-4.7-flash | ...]
//                                       [--type=BF16 | Q8_0 | Q4_0] [--layers=24]
//                                       [--folder=.cache/synthetic]
//
// prints the file.
//
// A twin of MoE++ or Mixtral is llama.cpp's architecture `llama` with experts, as Mixtral's files
// have it. Its router is a softmax over the experts, the largest renormalised. Qwen3's is
// `qwen3moe`: norms of queries and keys besides. GLM-4.7-Flash's is `deepseek2`; llama.cpp's
// LongCat-Flash is not written. Source of the keys: gguf-py's constants and convert_hf_to_gguf.py.
import { existsSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { check, oneOf, readArguments } from '../arguments.mjs'
import { Checkpoint } from '../safetensors.mjs'
import { SYNTHETIC, synthetic } from '../synthetic.mjs'
import { SHAPES } from '../synthetic-shapes.mjs'
import { ENCODERS } from './ggml-types.mjs'
import { boolean, f32, floats, integers, string, strings, TYPES, u32, writeGguf } from './gguf.mjs'
import { FAMILIES, tensors } from './gguf-tensors.mjs'

const TYPE = oneOf(Object.keys(ENCODERS))

/** Makes the file unless it is there, and returns its path. */
export function vanillaGguf(name, options, type) {
  check('type', type, TYPE)
  if (!FAMILIES[SHAPES[name].family])
    throw new RangeError(`shape: expected one that llama.cpp runs, got ${name}`)
  const directory = synthetic(name, { ...options, vanilla: true })
  const path = join(directory, `${type}.gguf`)
  if (existsSync(path)) return path
  const checkpoint = new Checkpoint(directory)
  const shape = { ...SHAPES[name], layers: checkpoint.config.num_hidden_layers }
  shape.headDim ??= shape.hidden / shape.heads
  shape.kvHeads ??= shape.heads
  try {
    writeGguf(
      `${path}.partial`,
      metadata(shape, checkpoint.config, type),
      tensors(shape, checkpoint, type),
    )
  } finally {
    checkpoint.close()
  }
  renameSync(`${path}.partial`, path)
  return path
}

function metadata(shape, config, type) {
  const { architecture } = FAMILIES[shape.family]
  const sizes = {
    block_count: u32(shape.layers),
    context_length: u32(config.max_position_embeddings),
    embedding_length: u32(shape.hidden),
    feed_forward_length: u32(shape.denseFfn ?? shape.ffn),
    expert_feed_forward_length: u32(shape.ffn),
    expert_count: u32(shape.ffnExperts),
    expert_used_count: u32(shape.topK),
    'attention.head_count': u32(shape.heads),
    'attention.layer_norm_rms_epsilon': f32(config.rms_norm_eps),
    'rope.freq_base': f32(config.rope_theta),
    vocab_size: u32(shape.vocab),
    ...(architecture === 'deepseek2' ? latentHeads(shape, config) : groupedHeads(shape)),
  }
  return {
    'general.architecture': string(architecture),
    'general.name': string('vanilla twin, random weights'),
    'general.alignment': u32(32),
    'general.file_type': u32(TYPES[type].fileType),
    ...Object.fromEntries(
      Object.entries(sizes).map(([key, value]) => [`${architecture}.${key}`, value]),
    ),
    ...vocabulary(shape.vocab),
  }
}

const groupedHeads = ({ headDim, kvHeads }) => ({
  'attention.head_count_kv': u32(kvHeads),
  'attention.key_length': u32(headDim),
  'attention.value_length': u32(headDim),
  'rope.dimension_count': u32(headDim),
})

/** Latents are one head of keys and values. Scores of the router are sigmoids, number 2. */
const latentHeads = (shape, config) => ({
  'attention.head_count_kv': u32(1),
  'attention.key_length': u32(shape.latentRank + shape.rotatedDim),
  'attention.value_length': u32(shape.latentRank),
  'attention.key_length_mla': u32(shape.plainDim + shape.rotatedDim),
  'attention.value_length_mla': u32(shape.valueDim),
  'attention.q_lora_rank': u32(shape.queryRank),
  'attention.kv_lora_rank': u32(shape.latentRank),
  'rope.dimension_count': u32(shape.rotatedDim),
  leading_dense_block_count: u32(1),
  expert_shared_count: u32(config.n_shared_experts),
  expert_gating_func: u32(2),
  expert_weights_norm: boolean(config.norm_topk_prob),
  expert_weights_scale: f32(config.routed_scaling_factor),
})

/**
 * A SentencePiece vocabulary as small as it may be: three control pieces, the bytes, and pieces
 * that no text has.
 */
function vocabulary(size) {
  const bytes = Array.from(
    { length: 256 },
    (_, i) => `<0x${i.toString(16).toUpperCase().padStart(2, '0')}>`,
  )
  const rest = Array.from({ length: size - 259 }, (_, i) => `piece${i}`)
  const types = [2, 3, 3, ...bytes.map(() => 6), ...rest.map(() => 1)]
  return {
    'tokenizer.ggml.model': string('llama'),
    'tokenizer.ggml.tokens': strings(['<unk>', '<s>', '</s>', ...bytes, ...rest]),
    'tokenizer.ggml.scores': floats(types.map((_, i) => -i)),
    'tokenizer.ggml.token_type': integers(types),
    'tokenizer.ggml.bos_token_id': u32(1),
    'tokenizer.ggml.eos_token_id': u32(2),
    'tokenizer.ggml.unknown_token_id': u32(0),
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { shape, layers, folder } = SYNTHETIC
  const kinds = { shape, layers, folder, type: TYPE }
  const {
    shape: name,
    type = 'BF16',
    ...options
  } = readArguments(process.argv.slice(2), kinds, 'shape')
  console.log(vanillaGguf(name, options, type))
}
