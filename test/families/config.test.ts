/** config.json of the families that follow transformers: defaults, other forms, refusals. */
import t from 'tap'
import { hasExperts, type Qwen3MoeConfig } from '../../lib/families/qwen3-moe.js'
import { describeModel } from '../../lib/families/registry.js'

const QWEN3 = { architectures: ['Qwen3MoeForCausalLM'], model_type: 'qwen3_moe' }
/** As ZEDA's conversion writes it. */
const ZEDA = { architectures: ['Qwen3MoePlusPlusForCausalLM'], model_type: 'qwen3_moe' }
const MIXTRAL = { architectures: ['MixtralForCausalLM'], model_type: 'mixtral' }

const parse = (json: object) => describeModel(json, 'config.json').config as Qwen3MoeConfig

t.test('defaults of Qwen3-MoE', async t => {
  t.match(parse(QWEN3), {
    family: 'qwen3-moe',
    vocabSize: 151936,
    hiddenSize: 2048,
    intermediateSize: 768,
    denseSize: 6144,
    layers: 24,
    heads: 32,
    kvHeads: 4,
    headDim: 64,
    experts: 128,
    ffnExperts: 128,
    topK: 8,
    normalise: false,
    attentionBias: false,
    slidingWindow: null,
    maxPositionEmbeddings: 32768,
    rmsNormEps: 1e-6,
    ropeTheta: 10000,
    ropeScaling: null,
    tieWordEmbeddings: false,
    bosTokenId: null,
    eosTokenIds: [],
  })
})

t.test('Qwen3-MoE: dense layers, windows, heads', async t => {
  const mixed = parse({ ...QWEN3, decoder_sparse_step: 2, mlp_only_layers: [3] })
  const layers = [0, 1, 2, 3, 4, 5].map(layer => hasExperts(mixed, layer))
  t.same(layers, [false, true, false, false, false, true])
  t.equal(hasExperts(parse({ ...QWEN3, num_experts: 0 }), 1), false)
  t.same(structuredClone(mixed), mixed, 'a configuration is plain data')
  t.equal(parse({ ...QWEN3, sliding_window: 8 }).slidingWindow, null, 'alone it does nothing')
  t.equal(parse({ ...QWEN3, use_sliding_window: true, sliding_window: 8 }).slidingWindow, 8)
  t.equal(parse({ ...QWEN3, use_sliding_window: true }).slidingWindow, 4096)
  t.equal(parse({ ...QWEN3, head_dim: 128 }).headDim, 128)
  t.equal(parse({ ...QWEN3, hidden_size: 2050, head_dim: 32 }).headDim, 32)
})

t.test('RoPE as transformers writes it, old and new', async t => {
  const scaling = (value: unknown) => parse({ ...QWEN3, rope_scaling: value }).ropeScaling
  t.equal(scaling(null), null)
  t.equal(scaling({ rope_type: 'default' }), null)
  t.same(scaling({ type: 'linear', factor: 2 }), { type: 'linear', factor: 2 })
  t.same(scaling({ rope_type: 'dynamic', factor: 4 }), { type: 'dynamic', factor: 4 })
  t.same(scaling({ rope_type: 'yarn', factor: 4, original_max_position_embeddings: 100 }), {
    type: 'yarn',
    factor: 4,
    yarn: {
      originalMaxPositions: 100,
      betaFast: 32,
      betaSlow: 1,
      truncate: true,
      attentionFactor: 0.1 * Math.log(4) + 1,
    },
  })
  const newer = parse({
    ...QWEN3,
    rope_parameters: { rope_theta: 5e6, rope_type: 'linear', factor: 8 },
    dtype: 'bfloat16',
    torch_dtype: undefined,
  })
  t.match(newer, { ropeTheta: 5e6, ropeScaling: { factor: 8 }, torchDtype: 'bf16' })
})

t.test('zero-computation experts of Qwen3-MoE++', async t => {
  const masked = parse(ZEDA)
  t.match(masked, { family: 'qwen3-moe-plus-plus', experts: 192, ffnExperts: 128, masked: true })
  t.same(masked.runs.at(-1), { kind: 'copy', count: 64 })
  const all = { zce_types: ['constant', 'zero', 'copy'], zce_nums: [3, 2, 1], use_zce_mask: false }
  t.same(parse({ ...ZEDA, num_experts: 6, num_experts_per_tok: 4, ...all }).runs, [
    { kind: 'ffn', count: 6 },
    { kind: 'constant', count: 3 },
    { kind: 'zero', count: 2 },
    { kind: 'copy', count: 1 },
  ])
})

t.test('kinds without experts', async t => {
  const none = { zce_nums: [0, 2], zce_types: ['copy', 'zero'] }
  t.same(parse({ ...ZEDA, ...none }).runs.slice(1), [{ kind: 'zero', count: 2 }])
})

t.test('defaults of Mixtral', async t => {
  t.match(parse(MIXTRAL), {
    family: 'mixtral',
    vocabSize: 32000,
    hiddenSize: 4096,
    intermediateSize: 14336,
    layers: 32,
    heads: 32,
    kvHeads: 8,
    headDim: 128,
    experts: 8,
    ffnExperts: 8,
    topK: 2,
    slidingWindow: null,
    rmsNormEps: 1e-5,
    ropeTheta: 1e6,
    maxPositionEmbeddings: 131072,
    bosTokenId: 1,
    eosTokenIds: [2],
  })
  t.equal(parse({ ...MIXTRAL, num_key_value_heads: null }).kvHeads, 32)
  t.equal(parse({ ...MIXTRAL, sliding_window: 4096 }).slidingWindow, 4096)
})

const YARN = { rope_type: 'yarn', factor: 4 }
const yarn = (changes: object) => ({ rope_scaling: { ...YARN, ...changes } })

/** Forms that mean the same to transformers, of one version or the other. */
const SAME: [base: object, changes: object, same: object][] = [
  [QWEN3, { num_local_experts: 16 }, { num_experts: 16 }],
  [QWEN3, { num_local_experts: 16, num_experts: 16 }, { num_experts: 16 }],
  [ZEDA, { num_local_experts: 16 }, { num_experts: 16 }],
  [QWEN3, { mlp_only_layers: null }, {}],
  [QWEN3, { norm_topk_prob: null, attention_bias: null, tie_word_embeddings: null }, {}],
  [QWEN3, { use_sliding_window: null, sliding_window: 8 }, {}],
  [QWEN3, { use_sliding_window: true, sliding_window: null }, {}],
  [ZEDA, { use_zce_mask: null }, { use_zce_mask: false }],
  [QWEN3, { hidden_act: 'swish', unsloth_fixed: true, unsloth_version: '2025.1' }, {}],
  [QWEN3, { partial_rotary_factor: 1.0 }, {}],
  [QWEN3, { hidden_size: 2050 }, { hidden_size: 2050, head_dim: 64 }],
  [MIXTRAL, { hidden_size: 4100, head_dim: null }, { hidden_size: 4100, head_dim: 128 }],
  [MIXTRAL, { head_dim: 0, attention_bias: false }, {}],
  [QWEN3, yarn({ truncate: null }), yarn({ truncate: false })],
  [QWEN3, yarn({ beta_fast: 0, beta_slow: 0, original_max_position_embeddings: 0 }), yarn({})],
  [QWEN3, { rope_scaling: { rope_type: 'default', factor: 2, mscale: 1 } }, {}],
  [QWEN3, { rope_scaling: {}, rope_parameters: { ...YARN } }, yarn({})],
  [QWEN3, { rope_theta: 5e6, ...yarn({ rope_theta: 5e6 }) }, { rope_theta: 5e6, ...yarn({}) }],
  [QWEN3, { partial_rotary_factor: null }, {}],
  [QWEN3, yarn({ type: 'yarn', partial_rotary_factor: 1 }), yarn({})],
  [QWEN3, { rope_theta: 5e6, rope_parameters: { rope_theta: 5e6 } }, { rope_theta: 5e6 }],
  [QWEN3, { rope_theta: 5e6, rope_parameters: { ...YARN } }, { rope_theta: 5e6, ...yarn({}) }],
  [QWEN3, { ...yarn({}), rope_parameters: { rope_type: 'default' } }, yarn({})],
  [QWEN3, { ...yarn({}), rope_parameters: { ...YARN, beta_fast: 32 } }, yarn({})],
  [
    ZEDA,
    { zce_nums: [1, 2, 1, 0, 1, 1, 1, 1, 1], zce_types: [...Array(8).fill('zero'), 'copy'] },
    { zce_nums: [8, 1], zce_types: ['zero', 'copy'] },
  ],
]

t.test('other forms of the same', async t => {
  for (const [base, changes, same] of SAME) {
    const expected = parse({ ...base, ...same })
    t.same(parse({ ...base, ...changes }), expected, JSON.stringify(changes))
  }
  t.equal(
    parse({ ...QWEN3, rope_scaling: { type: 'linear', factor: 0.5 } }).ropeScaling?.factor,
    0.5,
  )
})

const REFUSED: [base: object, changes: object, message: RegExp][] = [
  [QWEN3, { hidden_act: 'gelu' }, /hidden_act is "gelu", expected "silu"/],
  [QWEN3, { num_key_value_heads: null }, /num_key_value_heads is null/],
  [QWEN3, { num_key_value_heads: 5 }, /num_attention_heads 32 is not a multiple of .* 5/],
  [QWEN3, { head_dim: 31 }, /head_dim is 31, expected an even number from 2 to 256/],
  [QWEN3, { head_dim: 512 }, /head_dim is 512, expected an even number/],
  [QWEN3, { hidden_size: 31 }, /hidden_size 31 .* is 0, expected an even number from 2/],
  [
    QWEN3,
    { num_experts: 8, num_local_experts: 9 },
    /num_experts is 8, but num_local_experts, .* 9/,
  ],
  [QWEN3, { partial_rotary_factor: 0.5 }, /partial_rotary_factor is 0.5, expected 1/],
  [QWEN3, { num_experts_per_tok: 17 }, /num_experts_per_tok is 17, expected at most 16/],
  [QWEN3, { num_experts: 4 }, /num_experts_per_tok is 8, expected at most 4 of 4 experts/],
  [QWEN3, { num_experts: 1025 }, /a layer has 1025 experts, expected at most 1024/],
  [QWEN3, { mlp_only_layers: [-1] }, /mlp_only_layers is \[-1\], expected a list of integers/],
  [QWEN3, { quantization_config: {} }, /quantization_config is an object, expected null/],
  [QWEN3, { zce_nums: [64] }, /unknown key "zce_nums"/],
  [QWEN3, { rope_scaling: { type: 'ntk', factor: 2 } }, /rope_type is "ntk", expected default/],
  [QWEN3, { rope_scaling: { rope_type: 'yarn' } }, /rope_scaling: factor is missing/],
  [QWEN3, yarn({ factor: 0 }), /factor is 0, expected a number above 0/],
  [QWEN3, yarn({ beta_slow: -1 }), /beta_slow is -1, expected a number from 0/],
  [QWEN3, yarn({ type: 'linear' }), /rope_type is "yarn", but type, .*, is "linear"/],
  [QWEN3, { ...yarn({}), rope_theta: 1 }, /rope_theta is 1, expected a number above 1 with yarn/],
  [QWEN3, { ...yarn({}), rope_parameters: { ...YARN, factor: 8 } }, /name different scalings/],
  [QWEN3, { rope_scaling: { type: 'default' }, rope_parameters: YARN }, /name different scalings/],
  [
    QWEN3,
    { rope_theta: 1e6, rope_parameters: { rope_theta: 1e4 } },
    /rope_theta is 1000000, but .* 10000/,
  ],
  [
    QWEN3,
    { ...yarn({}), rope_parameters: { rope_theta: 1e6 } },
    /rope_theta is 10000, but .* 1000000/,
  ],
  [QWEN3, yarn({ rope_theta: 1e6 }), /rope_theta is 10000, but rope_scaling has .* 1000000/],
  [
    QWEN3,
    { rope_theta: 5e5, rope_scaling: { rope_type: 'default', rope_theta: 1e6 } },
    /rope_theta is 500000, but rope_scaling has rope_theta 1000000/,
  ],
  [QWEN3, { rope_parameters: { full_attention: {} } }, /rope_parameters: unknown key "full_att/],
  [QWEN3, { rope_scaling: { type: 'linear', factor: 2, x: 1 } }, /rope_scaling: unknown key "x"/],
  [QWEN3, { rope_scaling: 'yarn' }, /rope_scaling is "yarn", expected an object/],
  [QWEN3, { rope_parameters: [] }, /rope_parameters is \[\], expected an object/],
  [QWEN3, { rope_theta: -1 }, /rope_theta is -1, expected a number above 0/],
  [ZEDA, { zce_types: ['zero', 'copy'] }, /zce_types is .* expected one for each of zce_nums/],
  [ZEDA, { zce_types: ['skip'] }, /zce_types has "skip", expected zero, copy, constant/],
  [ZEDA, { zce_nums: 64 }, /zce_nums is 64, expected a list of integers/],
  [
    ZEDA,
    { zce_nums: Array(8).fill(1), zce_types: Array(4).fill(['zero', 'copy']).flat() },
    /zce_types changes 7 times, expected at most 6/,
  ],
  [ZEDA, { zce_nums: [1000] }, /a layer has 1128 experts/],
  [MIXTRAL, { num_experts_per_tok: 9 }, /num_experts_per_tok is 9, expected at most 8/],
  [MIXTRAL, { attention_bias: true }, /attention_bias is true, expected false/],
  [MIXTRAL, { num_local_experts: 0 }, /num_local_experts is 0/],
]

t.test('values that change the computation in an unknown way are refused by name', async t => {
  for (const [base, changes, message] of REFUSED) {
    t.throws(
      () => parse({ ...base, ...changes }),
      { code: 'ERR_BAD_CONFIG', message },
      JSON.stringify(changes),
    )
  }
})
