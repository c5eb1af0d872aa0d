// The tensors of a vanilla twin under llama.cpp's names.
//
// All matrices are of the one type, embedding and head too (llama.cpp's own Q4_0 files keep a
// larger head). Norms and router are F32. `llama` rotates neighbouring elements where the
// checkpoint rotates halves, so the rows of q and k are reordered within each head. `qwen3moe`
// rotates halves. `deepseek2` rotates neighbours, as GLM's checkpoint does. Its up-projection of
// latents comes as two tensors: the keys' of each head transposed, and the values'. Source of the
// names: gguf-py's constants and convert_hf_to_gguf.py.
import { ENCODERS } from './ggml-types.mjs'

const threeMatrices = prefix => (e, F, H) => ({
  gate: [`${prefix}.${e}.gate_proj.weight`, 0, F],
  up: [`${prefix}.${e}.up_proj.weight`, 0, F],
  down: [`${prefix}.${e}.down_proj.weight`, 0, H],
})

/** Of each family: llama.cpp's architecture, and where a layer's tensors are stored. */
export const FAMILIES = {
  moepp: {
    architecture: 'llama',
    attention: groupedHeads,
    router: 'mlp.moe.gate.wg.weight',
    expert: (e, F, H) => ({
      gate: [`mlp.moe.experts.experts.${e}.up_proj.weight`, 0, F],
      up: [`mlp.moe.experts.experts.${e}.up_proj.weight`, F, 2 * F],
      down: [`mlp.moe.experts.experts.${e}.down_proj.weight`, 0, H],
    }),
  },
  qwen3: {
    architecture: 'qwen3moe',
    attention: groupedHeads,
    router: 'mlp.gate.weight',
    expert: threeMatrices('mlp.experts'),
  },
  mixtral: {
    architecture: 'llama',
    attention: groupedHeads,
    router: 'block_sparse_moe.gate.weight',
    expert: (e, F, H) => ({
      gate: [`block_sparse_moe.experts.${e}.w1.weight`, 0, F],
      up: [`block_sparse_moe.experts.${e}.w3.weight`, 0, F],
      down: [`block_sparse_moe.experts.${e}.w2.weight`, 0, H],
    }),
  },
  glm4: {
    architecture: 'deepseek2',
    attention: latentHeads,
    router: 'mlp.gate.weight',
    routerBias: 'mlp.gate.e_score_correction_bias',
    expert: threeMatrices('mlp.experts'),
    shared: 'mlp.shared_experts',
  },
}

export function tensors(shape, checkpoint, type) {
  const { hidden: H, vocab: V } = shape
  const make = new Tensors(checkpoint, type)
  const list = [make.matrix('token_embd.weight', [V, H], 'model.embed_tokens.weight')]
  for (let i = 0; i < shape.layers; i++) list.push(...layerTensors(make, i, shape))
  list.push(
    make.f32('output_norm.weight', [H], 'model.norm.weight'),
    make.matrix('output.weight', [V, H], 'lm_head.weight'),
  )
  return list
}

/** Tensors of a GGUF file, each from where the checkpoint stores it. */
class Tensors {
  constructor(checkpoint, type) {
    Object.assign(this, { checkpoint, type })
  }

  /** `pieces` yields bf16 bits. */
  of(name, shape, pieces, type = this.type) {
    const content = function* () {
      for (const piece of pieces()) yield ENCODERS[type](piece)
    }
    return { name, type, shape, content }
  }

  matrix(name, shape, source) {
    return this.of(name, shape, () => this.checkpoint.rows(source, 0, shape[0]))
  }

  f32(name, shape, source) {
    const rows = shape.length === 1 ? 1 : shape[0]
    return this.of(name, shape, () => this.checkpoint.rows(source, 0, rows), 'F32')
  }

  /** All of a tensor, in another order. */
  reordered(name, shape, source, reorder) {
    return this.of(name, shape, () => [reorder(this.checkpoint.values(source))])
  }
}

function layerTensors(make, i, shape) {
  const { hidden: H } = shape
  const family = FAMILIES[shape.family]
  const [to, from] = [`blk.${i}`, `model.layers.${i}`]
  const isDense = shape.denseFfn !== undefined && i === 0
  return [
    make.f32(`${to}.attn_norm.weight`, [H], `${from}.input_layernorm.weight`),
    ...family.attention(make, to, `${from}.self_attn`, shape),
    make.f32(`${to}.ffn_norm.weight`, [H], `${from}.post_attention_layernorm.weight`),
    ...(isDense
      ? network(make, name => `${to}.ffn_${name}.weight`, `${from}.mlp`, H, shape.denseFfn)
      : expertTensors(make, to, from, shape)),
  ]
}

function groupedHeads(make, to, from, { family, hidden: H, heads, kvHeads, headDim: D }) {
  const { architecture } = FAMILIES[family]
  const name = part => `${to}.attn_${part}.weight`
  const rotated = (part, rows) => {
    const source = `${from}.${part}_proj.weight`
    if (architecture === 'qwen3moe') return make.matrix(name(part), [rows, H], source)
    return make.reordered(name(part), [rows, H], source, values => interleaveHalves(values, H, D))
  }
  const norms = architecture === 'qwen3moe' ? ['q', 'k'] : []
  return [
    ...norms.map(of => make.f32(name(`${of}_norm`), [D], `${from}.${of}_norm.weight`)),
    rotated('q', heads * D),
    rotated('k', kvHeads * D),
    make.matrix(name('v'), [kvHeads * D, H], `${from}.v_proj.weight`),
    make.matrix(name('output'), [H, heads * D], `${from}.o_proj.weight`),
  ]
}

function latentHeads(make, to, from, shape) {
  const { hidden: H, heads, queryRank: Q, latentRank: C, plainDim, rotatedDim, valueDim } = shape
  const name = part => `${to}.attn_${part}.weight`
  const latent = `${from}.kv_a_proj_with_mqa.weight`
  const up = (part, sizes, reorder) =>
    make.reordered(name(part), [heads, ...sizes], `${from}.kv_b_proj.weight`, reorder)
  return [
    make.matrix(name('q_a'), [Q, H], `${from}.q_a_proj.weight`),
    make.f32(name('q_a_norm'), [Q], `${from}.q_a_layernorm.weight`),
    make.matrix(name('q_b'), [heads * (plainDim + rotatedDim), Q], `${from}.q_b_proj.weight`),
    make.matrix(name('kv_a_mqa'), [C + rotatedDim, H], latent),
    make.f32(name('kv_a_norm'), [C], `${from}.kv_a_layernorm.weight`),
    up('k_b', [C, plainDim], values => keyColumns(values, C, plainDim, valueDim)),
    up('v_b', [valueDim, C], values => valueRows(values, C, plainDim, valueDim)),
    make.matrix(name('output'), [H, heads * valueDim], `${from}.o_proj.weight`),
  ]
}

/** Gate, up and down of one network. */
function network(make, nameOf, from, H, F) {
  return [
    make.matrix(nameOf('gate'), [F, H], `${from}.gate_proj.weight`),
    make.matrix(nameOf('up'), [F, H], `${from}.up_proj.weight`),
    make.matrix(nameOf('down'), [H, F], `${from}.down_proj.weight`),
  ]
}

function expertTensors(make, to, from, { family, hidden: H, ffn: F, ffnExperts: N }) {
  const { router, routerBias, expert, shared } = FAMILIES[family]
  const stacked = (part, sizes) =>
    make.of(`${to}.ffn_${part}_exps.weight`, [N, ...sizes], function* () {
      for (let e = 0; e < N; e++) {
        const [stored, first, end] = expert(e, F, H)[part]
        yield* make.checkpoint.rows(`${from}.${stored}`, first, end)
      }
    })
  const nameOfShared = part => `${to}.ffn_${part}_shexp.weight`
  return [
    make.f32(`${to}.ffn_gate_inp.weight`, [N, H], `${from}.${router}`),
    ...(routerBias ? [make.f32(`${to}.exp_probs_b.bias`, [N], `${from}.${routerBias}`)] : []),
    stacked('gate', [F, H]),
    stacked('up', [F, H]),
    stacked('down', [H, F]),
    ...(shared ? network(make, nameOfShared, `${from}.${shared}`, H, F) : []),
  ]
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

/** Of [heads, plainDim + valueDim, C] the keys' rows of each head, transposed. */
export function keyColumns(values, C, plainDim, valueDim) {
  const heads = values.length / C / (plainDim + valueDim)
  const out = new Uint16Array(heads * C * plainDim)
  for (let head = 0; head < heads; head++) {
    for (let row = 0; row < plainDim; row++) {
      const from = (head * (plainDim + valueDim) + row) * C
      for (let c = 0; c < C; c++) out[(head * C + c) * plainDim + row] = values[from + c]
    }
  }
  return out
}

/** The values' rows of each head. */
export function valueRows(values, C, plainDim, valueDim) {
  const heads = values.length / C / (plainDim + valueDim)
  const out = new Uint16Array(heads * valueDim * C)
  for (let head = 0; head < heads; head++) {
    const from = (head * (plainDim + valueDim) + plainDim) * C
    out.set(values.subarray(from, from + valueDim * C), head * valueDim * C)
  }
  return out
}
