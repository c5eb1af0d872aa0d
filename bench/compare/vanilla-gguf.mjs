// The vanilla twin of a synthetic checkpoint as a GGUF file: the same weights, so that both sides
// compute the same function.
//
//   node bench/compare/vanilla-gguf.mjs [7b | 2b | 1b | 0.6b] [--type=BF16 | Q8_0 | Q4_0]
//                                       [--layers=24] [--folder=.cache/synthetic]
//
// prints the file.
//
// It is llama.cpp's architecture `llama` with experts, as Mixtral's files have it: RMSNorm, RoPE,
// softmax over the experts, the two largest renormalised, SwiGLU. All matrices are of the one type,
// embedding and head too (llama.cpp's own Q4_0 files keep a larger head). Norms and router are F32.
// llama.cpp rotates neighbouring elements where MoE++ rotates halves, so the rows of q and k are
// reordered within each head.
import { existsSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { check, oneOf, readArguments } from '../arguments.mjs'
import { Checkpoint } from '../safetensors.mjs'
import { SYNTHETIC, synthetic } from '../synthetic.mjs'
import { ZERO_COMPUTATION_EXPERTS } from '../synthetic-shapes.mjs'
import { ENCODERS } from './ggml-types.mjs'
import { f32, floats, integers, string, strings, TYPES, u32, writeGguf } from './gguf.mjs'

const TYPE = oneOf(Object.keys(ENCODERS))

/** Makes the file unless it is there, and returns its path. */
export function vanillaGguf(name, options, type) {
  check('type', type, TYPE)
  const directory = synthetic(name, { ...options, vanilla: true })
  const path = join(directory, `${type}.gguf`)
  if (existsSync(path)) return path
  const checkpoint = new Checkpoint(directory)
  try {
    writeGguf(`${path}.partial`, metadata(checkpoint.config, type), tensors(checkpoint, type))
  } finally {
    checkpoint.close()
  }
  renameSync(`${path}.partial`, path)
  return path
}

function metadata(config, type) {
  const head = config.hidden_size / config.num_attention_heads
  const of = (key, value) => [`llama.${key}`, value]
  return Object.fromEntries([
    ['general.architecture', string('llama')],
    ['general.name', string('vanilla twin, random weights')],
    ['general.alignment', u32(32)],
    ['general.file_type', u32(TYPES[type].fileType)],
    of('block_count', u32(config.num_hidden_layers)),
    of('context_length', u32(4096)),
    of('embedding_length', u32(config.hidden_size)),
    of('feed_forward_length', u32(config.intermediate_size)),
    of('attention.head_count', u32(config.num_attention_heads)),
    of('attention.head_count_kv', u32(config.num_key_value_heads)),
    of('attention.key_length', u32(head)),
    of('attention.value_length', u32(head)),
    of('attention.layer_norm_rms_epsilon', f32(config.rms_norm_eps)),
    of('rope.dimension_count', u32(head)),
    of('rope.freq_base', f32(config.rope_theta)),
    of('expert_count', u32(config.num_experts[0] - ZERO_COMPUTATION_EXPERTS)),
    of('expert_used_count', u32(2)),
    of('vocab_size', u32(config.vocab_size)),
    ...Object.entries(vocabulary(config.vocab_size)),
  ])
}

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

function tensors(checkpoint, type) {
  const c = checkpoint.config
  const [H, F, V] = [c.hidden_size, c.intermediate_size, c.vocab_size]
  const N = c.num_experts[0] - ZERO_COMPUTATION_EXPERTS
  const encoded = (target, pieces) =>
    function* () {
      for (const piece of pieces()) yield ENCODERS[target](piece)
    }
  const plain = (name, shape, source, target = type) => ({
    name,
    type: target,
    shape,
    content: encoded(target, () => checkpoint.rows(source, 0, shape.length === 1 ? 1 : shape[0])),
  })
  const rotated = (name, source) => ({
    name,
    type,
    shape: [H, H],
    content: encoded(type, () => [
      interleaveHalves(checkpoint.values(source), H, H / c.num_attention_heads),
    ]),
  })
  const stacked = (name, shape, layer, part, from, to) => ({
    name,
    type,
    shape: [N, ...shape],
    content: encoded(type, function* () {
      for (let e = 0; e < N; e++)
        yield* checkpoint.rows(`${layer}.mlp.moe.experts.experts.${e}.${part}`, from, to)
    }),
  })
  const list = [plain('token_embd.weight', [V, H], 'model.embed_tokens.weight')]
  for (let i = 0; i < c.num_hidden_layers; i++) {
    const layer = `model.layers.${i}`
    list.push(
      plain(`blk.${i}.attn_norm.weight`, [H], `${layer}.input_layernorm.weight`, 'F32'),
      rotated(`blk.${i}.attn_q.weight`, `${layer}.self_attn.q_proj.weight`),
      rotated(`blk.${i}.attn_k.weight`, `${layer}.self_attn.k_proj.weight`),
      plain(`blk.${i}.attn_v.weight`, [H, H], `${layer}.self_attn.v_proj.weight`),
      plain(`blk.${i}.attn_output.weight`, [H, H], `${layer}.self_attn.o_proj.weight`),
      plain(`blk.${i}.ffn_norm.weight`, [H], `${layer}.post_attention_layernorm.weight`, 'F32'),
      plain(`blk.${i}.ffn_gate_inp.weight`, [N, H], `${layer}.mlp.moe.gate.wg.weight`, 'F32'),
      stacked(`blk.${i}.ffn_gate_exps.weight`, [F, H], layer, 'up_proj.weight', 0, F),
      stacked(`blk.${i}.ffn_up_exps.weight`, [F, H], layer, 'up_proj.weight', F, 2 * F),
      stacked(`blk.${i}.ffn_down_exps.weight`, [H, F], layer, 'down_proj.weight', 0, H),
    )
  }
  list.push(
    plain('output_norm.weight', [H], 'model.norm.weight', 'F32'),
    plain('output.weight', [V, H], 'lm_head.weight'),
  )
  return list
}

/** Rows of each head: i and i + D/2, which are rotated together, become 2i and 2i + 1. */
export function interleaveHalves(values, columns, headDim) {
  const out = new Uint16Array(values.length)
  const rows = values.length / columns
  for (let row = 0; row < rows; row++) {
    const head = row - (row % headDim)
    const at = row % headDim
    const source = head + (at >> 1) + (at % 2) * (headDim / 2)
    out.set(values.subarray(source * columns, (source + 1) * columns), row * columns)
  }
  return out
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
