// Full-size checkpoints with random weights, so that speed can be measured at real size without a download. Random routers
// choose all experts equally often, as the load balance of a trained model does: 2 N / E FFN experts per token.
//
//   node bench/synthetic.mjs [7b] [--layers=24]     prints the directory
import { randomFillSync } from 'node:crypto'
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const CACHE = fileURLToPath(new URL('../.cache/synthetic/', import.meta.url))

/** Sizes of the paper's models; zero-computation experts are 2 constant, copy and zero throughout. */
export const SHAPES = {
  '7b': { hidden: 1536, ffn: 4096, layers: 24, heads: 16, vocab: 65536, experts: 20 },
}

/** The tensors of a checkpoint, [name, shape], in the order of the forward pass. */
function* tensors({ hidden: H, ffn: F, layers, vocab, experts: E }) {
  yield ['model.embed_tokens.weight', [vocab, H]]
  for (let i = 0; i < layers; i++) {
    const layer = `model.layers.${i}`
    yield [`${layer}.input_layernorm.weight`, [H]]
    for (const name of ['q', 'k', 'v', 'o']) yield [`${layer}.self_attn.${name}_proj.weight`, [H, H]]
    yield [`${layer}.post_attention_layernorm.weight`, [H]]
    yield [`${layer}.mlp.moe.gate.wg.weight`, [E, H]]
    yield [`${layer}.mlp.moe.gate.gate_map.weight`, [E, E]]
    for (let e = 0; e < E - 4; e++) {
      const expert = `${layer}.mlp.moe.experts.experts.${e}`
      yield [`${expert}.up_proj.weight`, [2 * F, H]]
      yield [`${expert}.down_proj.weight`, [H, F]]
    }
    for (const e of [E - 4, E - 3]) {
      yield [`${layer}.mlp.moe.experts.experts.${e}.wg.weight`, [2, H]]
      yield [`${layer}.mlp.moe.experts.experts.${e}.constant`, [H]]
    }
  }
  yield ['model.norm.weight', [H]]
  yield ['lm_head.weight', [vocab, H]]
}

/** 16 MiB of bf16 values with standard deviation 0.02: the sum of four bytes is close to normal. */
function randomBlock() {
  const bytes = randomFillSync(Buffer.alloc(32 << 20))
  const values = new Uint16Array(8 << 20)
  const float = new Float32Array(1)
  const bits = new Uint32Array(float.buffer)
  for (let i = 0; i < values.length; i++) {
    const sum = bytes[4 * i] + bytes[4 * i + 1] + bytes[4 * i + 2] + bytes[4 * i + 3]
    float[0] = ((sum - 510) / 147.8) * 0.02
    values[i] = bits[0] >>> 16
  }
  return Buffer.from(values.buffer)
}

const bf16One = Buffer.from([0x80, 0x3f])

function writeTensor(file, name, bytes, block, offset) {
  if (name.includes('norm.weight')) return writeSync(file, Buffer.alloc(bytes, bf16One))
  for (let done = 0; done < bytes; ) {
    const from = (offset + done) % block.length
    done += writeSync(file, block, from, Math.min(bytes - done, block.length - from))
  }
}

/** Makes the checkpoint unless it is there, and returns its directory. */
export function synthetic(name = '7b', layers = SHAPES[name].layers) {
  const shape = { ...SHAPES[name], layers }
  const directory = join(CACHE, `${name}-${layers}-layers`)
  if (existsSync(directory)) return directory
  const partial = `${directory}.partial`
  rmSync(partial, { recursive: true, force: true })
  mkdirSync(partial, { recursive: true })
  const header = {}
  let end = 0
  for (const [tensor, sizes] of tensors(shape)) {
    const bytes = 2 * sizes.reduce((a, b) => a * b, 1)
    header[tensor] = { dtype: 'BF16', shape: sizes, data_offsets: [end, end + bytes] }
    end += bytes
  }
  const text = Buffer.from(JSON.stringify(header))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(text.length))
  const file = openSync(join(partial, 'model.safetensors'), 'w')
  writeSync(file, length)
  writeSync(file, text)
  const block = randomBlock()
  for (const [tensor, { data_offsets: offsets }] of Object.entries(header)) {
    // Another start for each tensor, odd in elements, so that no two are alike.
    writeTensor(file, tensor, offsets[1] - offsets[0], block, (offsets[0] % 1000003) * 2)
  }
  closeSync(file)
  writeFileSync(join(partial, 'config.json'), JSON.stringify(config(shape), null, 2))
  renameSync(partial, directory)
  return directory
}

/** config.json with the released model's flags. */
function config(shape) {
  return {
    architectures: ['MoeForCausalLM'],
    model_type: 'MoE++',
    vocab_size: shape.vocab,
    hidden_size: shape.hidden,
    intermediate_size: shape.ffn,
    num_hidden_layers: shape.layers,
    num_attention_heads: shape.heads,
    num_key_value_heads: shape.heads,
    num_experts: [shape.experts],
    moe_use_mixtral_gating: false,
    moe_2layer_gate: false,
    moe_use_logits_norm: true,
    moe_gate_norm_std: 1.0,
    moe_feature_no_mul_topk: true,
    max_position_embeddings: 2048,
    rms_norm_eps: 1e-6,
    rope_theta: 10000,
    tie_word_embeddings: false,
    torch_dtype: 'bfloat16',
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const layers = process.argv.find(argument => argument.startsWith('--layers='))
  console.log(synthetic('7b', layers ? Number(layers.slice('--layers='.length)) : undefined))
}
