/** config.json and files of the families with latent attention: defaults, and what is refused. */
import { join } from 'node:path'
import t from 'tap'
import { openCheckpoint } from '../../lib/checkpoint/checkpoint.js'
import { inspectCheckpoint } from '../../lib/convert/inspect.js'
import { describeModel } from '../../lib/families/registry.js'
import { loadModel } from '../../lib/index.js'
import { readTensor } from '../../lib/tensor/read-tensor.js'
import { runHere } from '../cli/run-here.js'
import { f32Entry, writeCheckpoint } from '../support/float8.js'
import { type Family, goldenCase } from '../support/golden.js'

const GLM = { architectures: ['Glm4MoeLiteForCausalLM'] }
const ZEDA = { architectures: ['Glm4MoeLitePlusPlusForCausalLM'], model_type: 'glm4_moe_lite' }
const LONGCAT = { architectures: ['LongcatFlashForCausalLM'] }

const parse = (json: object) => describeModel(json, 'config.json').config

t.test('defaults', async t => {
  t.match(parse(GLM), {
    ...{ family: 'glm4-moe-lite', layers: 47, heads: 20, headDim: 256, queryRank: 768 },
    ...{ latentRank: 512, plainDim: 192, rotatedDim: 64, valueDim: 256, experts: 64, topK: 4 },
  })
  t.match(parse(ZEDA), { family: 'glm4-moe-lite-plus-plus', experts: 128, ffnExperts: 64 })
  t.match(parse({ ...LONGCAT, num_hidden_layers: 56 }), {
    ...{ family: 'longcat-flash', layers: 28, heads: 64, headDim: 192, queryRank: 1536 },
    ...{ latentRank: 512, plainDim: 128, rotatedDim: 64, valueDim: 128, experts: 768, topK: 12 },
  })
})

const REFUSED: readonly [object, object, RegExp][] = [
  [GLM, { num_attention_heads: 257 }, /num_attention_heads is 257, expected at most 256/],
  [GLM, { num_attention_heads: 0 }, /num_attention_heads is 0/],
  [GLM, { kv_lora_rank: 0 }, /kv_lora_rank is 0/],
  [GLM, { kv_lora_rank: null }, /kv_lora_rank is null/],
  [GLM, { kv_lora_rank: 961 }, /kv_lora_rank and qk_rope_head_dim add up to 1025, expected at/],
  [GLM, { q_lora_rank: 0 }, /q_lora_rank is 0/],
  [GLM, { qk_rope_head_dim: 63 }, /qk_rope_head_dim is 63, expected an even number/],
  [GLM, { qk_nope_head_dim: -1 }, /qk_nope_head_dim is -1/],
  [GLM, { v_head_dim: 1.5 }, /v_head_dim is 1.5/],
  [GLM, { n_group: 5 }, /n_group is 5, expected at most 32 equal groups of two or more of 64/],
  [GLM, { n_group: 64 }, /n_group is 64, expected at most 32 equal groups/],
  [GLM, { n_group: 4, topk_group: 5 }, /topk_group is 5, expected at most 4/],
  [GLM, { num_experts_per_tok: 17 }, /num_experts_per_tok is 17, expected at most 16/],
  [GLM, { mlp_layer_types: ['dense'] }, /mlp_layer_types is \["dense"\], expected dense or sparse/],
  [GLM, { n_shared_experts: -1 }, /n_shared_experts is -1/],
  [GLM, { routed_scaling_factor: 0 }, /routed_scaling_factor is 0/],
  [GLM, { zce_nums: [4] }, /unknown key "zce_nums"/],
  [ZEDA, { zce_nums: [4, 4] }, /zce_types is \["copy"\], expected one for each of zce_nums/],
  [ZEDA, { zce_types: ['skip'] }, /zce_types has "skip", expected zero, copy, constant/],
  [ZEDA, { n_routed_experts: 1000 }, /a layer has 1064 experts, expected at most 1024/],
  [LONGCAT, { q_lora_rank: null }, /q_lora_rank is null, expected a number/],
  [LONGCAT, { head_dim: 128 }, /head_dim is 128, expected qk_rope_head_dim, 64/],
  [LONGCAT, { moe_topk: 17 }, /is 17, expected at most 16/],
  [LONGCAT, { zero_expert_type: 'drop' }, /zero_expert_type is "drop", expected "identity"/],
  [LONGCAT, { mla_scale_q_lora: false }, /mla_scale_q_lora is false, expected true/],
  [LONGCAT, { router_bias: true }, /router_bias is true, expected false/],
  [LONGCAT, { zero_expert_num: -1 }, /zero_expert_num is -1/],
]

t.test('configurations that are refused', async t => {
  for (const [json, change, message] of REFUSED)
    t.throws(() => parse({ ...json, ...change }), { code: 'ERR_BAD_CONFIG', message })
})

/** A golden case with another shape of one tensor, or without it. */
async function misshapen(folder: string, family: Family, name: string, tensor: string, by: number) {
  const source = goldenCase(name, family)
  const { tensors } = await openCheckpoint(source)
  const entries: Record<string, ReturnType<typeof f32Entry>> = {}
  for (const [key, ref] of tensors) {
    const [rows = 0, ...rest] = ref.shape
    if (key !== tensor) entries[key] = f32Entry(ref.shape, await readTensor(ref))
    else if (rows + by > 0) {
      const values = new Float32Array([rows + by, ...rest].reduce((a, b) => a * b, 1))
      entries[key] = f32Entry([rows + by, ...rest], values)
    }
  }
  return writeCheckpoint(folder, source, entries)
}

t.test('files that are refused', async t => {
  const [glm, longcat] = ['model.layers.1', 'model.layers.0']
  const attention = ['q_a_proj', 'q_a_layernorm', 'q_b_proj', 'kv_a_proj_with_mqa', 'kv_b_proj']
  const cases: [Family, string, string][] = [
    ['glm4_moe_lite', 'vanilla-bf16', `${glm}.self_attn.kv_a_layernorm.weight`],
    ['glm4_moe_lite', 'vanilla-bf16', `${glm}.mlp.gate.e_score_correction_bias`],
    ['glm4_moe_lite', 'vanilla-bf16', `${glm}.mlp.shared_experts.up_proj.weight`],
    ['glm4_moe_lite_plus_plus', 'constant-dense-last', `${glm}.self_attn.o_proj.bias`],
    ['longcat_flash', 'basic', `${longcat}.mlps.1.down_proj.weight`],
    ['longcat_flash', 'basic', `${longcat}.input_layernorm.1.weight`],
    ['longcat_flash', 'basic', `${longcat}.mlp.router.classifier.weight`],
  ]
  for (const part of attention)
    cases.push(['longcat_flash', 'basic', `${longcat}.self_attn.1.${part}.weight`])
  const folder = t.testdir()
  for (const [i, [family, name, tensor]] of cases.entries()) {
    const { tensors } = await openCheckpoint(goldenCase(name, family))
    const [rows = 0, ...rest] = tensors.get(tensor)!.shape
    const shown = (first: number) => `[${[first, ...rest].join(', ')}]`
    const [more, none] = [
      await misshapen(join(folder, `more-${i}`), family, name, tensor, 1),
      await misshapen(join(folder, `none-${i}`), family, name, tensor, -rows),
    ]
    for (const dtype of ['auto', 'int8'] as const) {
      const load = (source: string) => loadModel(source, { device: 'cpu', dtype })
      const missing = `${tensor}: missing in ${none}`
      await t.rejects(load(none), { code: 'ERR_BAD_WEIGHTS', message: missing })
      const message = `${tensor}: weight is ${shown(rows + 1)} f32, expected ${shown(rows)} (`
      const fault = await load(more).catch(error => error)
      t.equal(fault.code, 'ERR_BAD_WEIGHTS')
      t.ok(String(fault.message).startsWith(message), fault.message)
    }
  }
})

t.test('layers for multi-token prediction are shown and not loaded', async t => {
  for (const [family, name, layers] of [
    ['glm4_moe_lite_plus_plus', 'real-zero-bf16', 1],
    ['longcat_flash', 'real-bf16', 1],
    ['longcat_flash', 'basic', 0],
  ] as const) {
    const source = goldenCase(name, family)
    const { predictionLayers, otherTensors } = await inspectCheckpoint(source)
    t.equal(predictionLayers, layers)
    t.equal(otherTensors.length > 0, layers > 0)
    const { stdout } = await runHere(['inspect', source])
    t.equal(/multi-token prediction +1 layer, not loaded\n/.test(stdout), layers > 0)
  }
  const { predictionLayer } = describeModel({ ...GLM, num_hidden_layers: 3 }, 'config.json')
  const names = ['model.layers.2.x', 'model.layers.3.x', 'model.layers.11.x', 'model.norm.weight']
  t.strictSame(names.map(predictionLayer!), [undefined, 0, 8, undefined])
  const longcat = describeModel(LONGCAT, 'config.json').predictionLayer!
  t.strictSame(
    ['model.mtp.norm.weight', 'model.mtp.layers.2.x', 'model.layers.99.x'].map(longcat),
    [...[0, 2, undefined]],
  )
})
