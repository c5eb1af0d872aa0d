// The vanilla twin of a synthetic checkpoint as a GGUF file: the same weights, so that both sides
// compute the same function.
//
//   node bench/compare/vanilla-gguf.mjs [7b | qwen3-30b-a3b | mixtral-8x7b | ...]
//                                       [--type=BF16 | Q8_0 | Q4_0] [--layers=24]
//                                       [--folder=.cache/synthetic]
//
// prints the file.
//
// A twin of MoE++ or Mixtral is llama.cpp's architecture `llama` with experts, as Mixtral's files
// have it. Its router is a softmax over the experts, the largest renormalised. Qwen3's is
// `qwen3moe`: norms of queries and keys besides. All matrices are of the one type, embedding and
// head too (llama.cpp's own Q4_0 files keep a larger head). Norms and router are F32. `llama`
// rotates neighbouring elements where the checkpoint rotates halves, so the rows of q and k are
// reordered within each head. `qwen3moe` rotates halves. Source of keys and tensor names: gguf-py's
// constants and convert_hf_to_gguf.py.
import { existsSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { check, oneOf, readArguments } from '../arguments.mjs'
import { Checkpoint } from '../safetensors.mjs'
import { SYNTHETIC, synthetic } from '../synthetic.mjs'
import { SHAPES } from '../synthetic-shapes.mjs'
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

/** Of each family: llama.cpp's architecture, and where a layer's tensors are stored. */
const FAMILIES = {
  moepp: {
    architecture: 'llama',
    router: 'mlp.moe.gate.wg.weight',
    expert: (e, F, H) => ({
      gate: [`mlp.moe.experts.experts.${e}.up_proj.weight`, 0, F],
      up: [`mlp.moe.experts.experts.${e}.up_proj.weight`, F, 2 * F],
      down: [`mlp.moe.experts.experts.${e}.down_proj.weight`, 0, H],
    }),
  },
  qwen3: {
    architecture: 'qwen3moe',
    router: 'mlp.gate.weight',
    expert: (e, F, H) => ({
      gate: [`mlp.experts.${e}.gate_proj.weight`, 0, F],
      up: [`mlp.experts.${e}.up_proj.weight`, 0, F],
      down: [`mlp.experts.${e}.down_proj.weight`, 0, H],
    }),
  },
  mixtral: {
    architecture: 'llama',
    router: 'block_sparse_moe.gate.weight',
    expert: (e, F, H) => ({
      gate: [`block_sparse_moe.experts.${e}.w1.weight`, 0, F],
      up: [`block_sparse_moe.experts.${e}.w3.weight`, 0, F],
      down: [`block_sparse_moe.experts.${e}.w2.weight`, 0, H],
    }),
  },
}

function metadata(shape, config, type) {
  const { architecture } = FAMILIES[shape.family]
  const of = (key, value) => [`${architecture}.${key}`, value]
  return Object.fromEntries([
    ['general.architecture', string(architecture)],
    ['general.name', string('vanilla twin, random weights')],
    ['general.alignment', u32(32)],
    ['general.file_type', u32(TYPES[type].fileType)],
    of('block_count', u32(shape.layers)),
    of('context_length', u32(4096)),
    of('embedding_length', u32(shape.hidden)),
    of('feed_forward_length', u32(shape.ffn)),
    of('expert_feed_forward_length', u32(shape.ffn)),
    of('attention.head_count', u32(shape.heads)),
    of('attention.head_count_kv', u32(shape.kvHeads)),
    of('attention.key_length', u32(shape.headDim)),
    of('attention.value_length', u32(shape.headDim)),
    of('attention.layer_norm_rms_epsilon', f32(config.rms_norm_eps)),
    of('rope.dimension_count', u32(shape.headDim)),
    of('rope.freq_base', f32(config.rope_theta)),
    of('expert_count', u32(shape.ffnExperts)),
    of('expert_used_count', u32(shape.topK)),
    of('vocab_size', u32(shape.vocab)),
    ...Object.entries(vocabulary(shape.vocab)),
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

function tensors(shape, checkpoint, type) {
  const { hidden: H, vocab: V, ffn: F, ffnExperts: N, heads, kvHeads, headDim: D } = shape
  const { architecture, router, expert } = FAMILIES[shape.family]
  const encoded = (target, pieces) =>
    function* () {
      for (const piece of pieces()) yield ENCODERS[target](piece)
    }
  const plain = (name, sizes, source, target = type) => ({
    name,
    type: target,
    shape: sizes,
    content: encoded(target, () => checkpoint.rows(source, 0, sizes.length === 1 ? 1 : sizes[0])),
  })
  const rotated = (name, rows, source) => ({
    name,
    type,
    shape: [rows, H],
    content: encoded(type, () => [interleaveHalves(checkpoint.values(source), H, D)]),
  })
  const queryOrKey = architecture === 'llama' ? rotated : (name, r, s) => plain(name, [r, H], s)
  const stacked = (name, sizes, layer, part) => ({
    name,
    type,
    shape: [N, ...sizes],
    content: encoded(type, function* () {
      for (let e = 0; e < N; e++) {
        const [stored, from, to] = expert(e, F, H)[part]
        yield* checkpoint.rows(`${layer}.${stored}`, from, to)
      }
    }),
  })
  const list = [plain('token_embd.weight', [V, H], 'model.embed_tokens.weight')]
  for (let i = 0; i < shape.layers; i++) {
    const layer = `model.layers.${i}`
    const attention = `${layer}.self_attn`
    if (architecture === 'qwen3moe')
      for (const of of ['q', 'k'])
        list.push(
          plain(`blk.${i}.attn_${of}_norm.weight`, [D], `${attention}.${of}_norm.weight`, 'F32'),
        )
    list.push(
      plain(`blk.${i}.attn_norm.weight`, [H], `${layer}.input_layernorm.weight`, 'F32'),
      queryOrKey(`blk.${i}.attn_q.weight`, heads * D, `${attention}.q_proj.weight`),
      queryOrKey(`blk.${i}.attn_k.weight`, kvHeads * D, `${attention}.k_proj.weight`),
      plain(`blk.${i}.attn_v.weight`, [kvHeads * D, H], `${attention}.v_proj.weight`),
      plain(`blk.${i}.attn_output.weight`, [H, heads * D], `${attention}.o_proj.weight`),
      plain(`blk.${i}.ffn_norm.weight`, [H], `${layer}.post_attention_layernorm.weight`, 'F32'),
      plain(`blk.${i}.ffn_gate_inp.weight`, [N, H], `${layer}.${router}`, 'F32'),
      stacked(`blk.${i}.ffn_gate_exps.weight`, [F, H], layer, 'gate'),
      stacked(`blk.${i}.ffn_up_exps.weight`, [F, H], layer, 'up'),
      stacked(`blk.${i}.ffn_down_exps.weight`, [H, F], layer, 'down'),
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
