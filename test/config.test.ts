import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { MoeppConfig } from '../lib/families/moepp.js'
import { describeModel, readModel } from '../lib/families/registry.js'
import { parseGenerationConfig, readGenerationConfig } from '../lib/generation/generation-config.js'

/** The released 7B model's config.json. */
const RELEASED = {
  architectures: ['MoeForCausalLM'],
  auto_map: { AutoConfig: 'configuration_moe_plus_plus.MoeConfig' },
  model_type: 'MoE++',
  vocab_size: 65536,
  bos_token_id: 1,
  eos_token_id: 2,
  pad_token_id: 0,
  hidden_act: 'silu',
  hidden_size: 1536,
  initializer_range: 0.01,
  intermediate_size: 4096,
  max_position_embeddings: 2048,
  num_attention_heads: 16,
  num_key_value_heads: 16,
  num_hidden_layers: 24,
  num_experts: [20],
  moe_use_mixtral_gating: false,
  moe_2layer_gate: false,
  moe_use_logits_norm: true,
  moe_gate_norm_std: 1.0,
  moe_feature_no_mul_topk: true,
  sliding_window: null,
  moe_expert_interval: 1,
  rms_norm_eps: 1e-6,
  rotary_percent: 1.0,
  tie_word_embeddings: false,
  torch_dtype: 'bfloat16',
  use_cache: true,
  transformers_version: '4.33.1',
  rope_theta: 10000,
}

function parse(changes: Record<string, unknown> = {}) {
  return describeModel({ ...RELEASED, ...changes }, 'model/config.json').config as MoeppConfig
}

t.test('the released model', async t => {
  t.strictSame(parse(), {
    family: 'moepp',
    vocabSize: 65536,
    hiddenSize: 1536,
    intermediateSize: 4096,
    layers: 24,
    heads: 16,
    kvHeads: 16,
    headDim: 96,
    maxPositionEmbeddings: 2048,
    experts: 20,
    ffnExperts: 16,
    rmsNormEps: 1e-6,
    ropeTheta: 10000,
    ropeScaling: null,
    tieWordEmbeddings: false,
    topK: 2,
    mixtralGating: false,
    twoLayerRouter: false,
    logitsNorm: true,
    gateNormStd: 1,
    inputScale: 1,
    padTokenId: 0,
    bosTokenId: 1,
    eosTokenIds: [2],
    torchDtype: 'bf16',
  })
})

t.test("a config.json with its type alone: upstream's defaults", async t => {
  t.strictSame(describeModel({ model_type: 'MoE++' }, 'config.json').config, {
    family: 'moepp',
    vocabSize: 32000,
    hiddenSize: 4096,
    intermediateSize: 11008,
    layers: 32,
    heads: 32,
    kvHeads: 32,
    headDim: 128,
    maxPositionEmbeddings: 2048,
    experts: 32,
    ffnExperts: 28,
    rmsNormEps: 1e-6,
    ropeTheta: 10000,
    ropeScaling: null,
    tieWordEmbeddings: false,
    topK: 2,
    mixtralGating: false,
    twoLayerRouter: true,
    logitsNorm: false,
    gateNormStd: 1,
    inputScale: 2,
    padTokenId: null,
    bosTokenId: 1,
    eosTokenIds: [2],
    torchDtype: null,
  })
})

t.test('the expert inputs are doubled unless either flag says otherwise', async t => {
  const scale = (mixtral: boolean, noMul: boolean) =>
    parse({ moe_use_mixtral_gating: mixtral, moe_feature_no_mul_topk: noMul }).inputScale
  t.strictSame(
    [scale(false, false), scale(false, true), scale(true, false), scale(true, true)],
    [2, 1, 1, 1],
  )
})

t.test('other accepted values', async t => {
  t.strictSame(parse({ rope_scaling: { type: 'ntk', factor: 8.5 } }).ropeScaling, {
    type: 'ntk',
    factor: 8.5,
  })
  t.strictSame(
    parse(JSON.parse('{"rope_scaling": {"type": "linear", "factor": 2.0}}')).ropeScaling,
    {
      type: 'linear',
      factor: 2,
    },
  )
  t.strictSame(parse({ rope_scaling: null }).ropeScaling, null)
  t.equal(parse({ num_key_value_heads: null }).kvHeads, 16)
  t.equal(parse({ num_key_value_heads: 4 }).kvHeads, 4)
  t.equal(parse({ num_experts: [4] }).ffnExperts, 0)
  t.equal(
    parse({ num_experts: [12, 8] }).experts,
    12,
    'the first entry is used for every layer, as upstream',
  )
  t.equal(parse({ pretraining_tp: 4 }).heads, 16)
  t.strictSame(parse({ eos_token_id: [2, 7] }).eosTokenIds, [2, 7])
  t.strictSame(parse({ eos_token_id: null }).eosTokenIds, [])
  t.equal(parse({ bos_token_id: null, pad_token_id: -1 }).padTokenId, null)
  t.equal(parse({ torch_dtype: undefined, dtype: 'float16' }).torchDtype, 'f16')
})

const REFUSED: [changes: Record<string, unknown>, message: RegExp][] = [
  [{ moe_expert_interval: 2 }, /moe_expert_interval is 2, expected 1/],
  [{ moe_shared_experts: 1 }, /unknown key "moe_shared_experts"/],
  [{ moe_a: 1, attention_bias: true }, /unknown keys "moe_a", "attention_bias"/],
  [{ quantization_config: {} }, /quantization_config is an object, expected null/],
  [{ num_experts: 20 }, /num_experts is 20, expected a list/],
  [{ num_experts: [] }, /num_experts is \[\]/],
  [{ num_experts: [3] }, /num_experts is \[3\]/],
  [{ num_experts: [4.5] }, /num_experts is \[4\.5\]/],
  [{ num_experts: [1e9] }, /num_experts/],
  [{ num_attention_heads: 7 }, /hidden_size 1536 is not a multiple of num_attention_heads 7/],
  [{ num_attention_heads: 512, num_key_value_heads: 512 }, /is 3, expected an even number/],
  [{ num_key_value_heads: 5 }, /num_attention_heads 16 is not a multiple of num_key_value_heads 5/],
  [{ pretraining_tp: 3, vocab_size: 65536 }, /pretraining_tp 3 does not divide vocab_size 65536/],
  [{ pretraining_tp: 5, vocab_size: 65535 }, /pretraining_tp 5 does not divide hidden_size 1536/],
  [
    { pretraining_tp: 64, num_key_value_heads: 1 },
    /pretraining_tp 64 does not divide num_key_value_heads \* head_dim 96/,
  ],
  [
    { rope_scaling: { type: 'yarn', factor: 2 } },
    /rope_scaling\.type is "yarn", expected linear, dynamic, ntk/,
  ],
  [
    { rope_scaling: { rope_type: 'linear', factor: 2 } },
    /rope_scaling has the unknown key "rope_type"/,
  ],
  [
    { rope_scaling: { type: 'linear', factor: 1 } },
    /rope_scaling\.factor is 1, expected a number above 1/,
  ],
  [{ rope_scaling: { type: 'linear', factor: '2' } }, /rope_scaling\.factor is "2"/],
  [{ rope_scaling: { type: 'linear' } }, /rope_scaling\.factor is nothing/],
  [{ rope_scaling: 'linear' }, /rope_scaling\.type is nothing/],
  [{ rope_theta: 0 }, /rope_theta is 0, expected a number above 0/],
  [{ rms_norm_eps: -1 }, /rms_norm_eps is -1, expected a number from 0/],
  [{ rms_norm_eps: null }, /rms_norm_eps is null/],
  [{ moe_2layer_gate: 'no' }, /moe_2layer_gate is "no", expected true or false/],
  [{ tie_word_embeddings: 1 }, /tie_word_embeddings is 1, expected true or false/],
  [{ vocab_size: '65536' }, /vocab_size is "65536"/],
  [{ vocab_size: 0 }, /vocab_size is 0/],
  [{ vocab_size: 2 ** 31 }, /vocab_size is 2147483648/],
  [{ num_hidden_layers: 1.5 }, /num_hidden_layers is 1\.5, expected an integer/],
  [{ eos_token_id: [2, 'x'] }, /eos_token_id is \[2, "x"\]/],
  [{ pad_token_id: 'x' }, /pad_token_id is "x"/],
  [{ torch_dtype: 'float64' }, /torch_dtype is "float64", expected float32, float16, bfloat16/],
]

t.test('what cannot be run exactly is refused by name', async t => {
  for (const [changes, message] of REFUSED) {
    t.throws(
      () => parse(changes),
      { name: 'MoeppError', code: 'ERR_BAD_CONFIG', message },
      JSON.stringify(changes),
    )
    t.throws(() => parse(changes), { message: /^model\/config\.json: / })
  }
  for (const json of [null, [], 'text', 3]) {
    t.throws(() => describeModel(json, 'config.json'), {
      code: 'ERR_BAD_CONFIG',
      message: /expected an object/,
    })
  }
})

t.test(
  'a family that moepp does not run is unsupported, and those that it runs are listed',
  async t => {
    for (const json of [
      { model_type: 'llama' },
      { architectures: ['LlamaForCausalLM'], model_type: 'MoE++' },
      { architectures: ['Qwen3MoeForSequenceClassification'], model_type: 'qwen3_moe' },
      {},
    ]) {
      t.throws(() => describeModel(json, 'config.json'), {
        code: 'ERR_UNSUPPORTED',
        message: /moepp runs MoeForCausalLM, Qwen3MoeForCausalLM/,
      })
    }
  },
)

t.test('generation_config.json', async t => {
  const parsed = parseGenerationConfig(
    {
      ...{
        bos_token_id: 1,
        pad_token_id: null,
        eos_token_id: [2, 5],
        do_sample: true,
        temperature: 0.7,
        top_k: 40,
      },
      ...{
        top_p: 0.9,
        min_p: 0.05,
        typical_p: 0.95,
        repetition_penalty: 1.1,
        no_repeat_ngram_size: 3,
      },
      ...{
        max_new_tokens: 64,
        min_new_tokens: 1,
        num_return_sequences: 2,
        num_beams: 4,
        transformers_version: '4',
      },
    },
    'generation_config.json',
  )
  t.strictSame(parsed, {
    ...{ bosTokenId: 1, eosTokenIds: [2, 5], doSample: true, temperature: 0.7, topK: 40 },
    ...{ topP: 0.9, minP: 0.05, typicalP: 0.95, repetitionPenalty: 1.1, noRepeatNgramSize: 3 },
    ...{ maxNewTokens: 64, minNewTokens: 1, numReturnSequences: 2 },
  })
  t.strictSame(parseGenerationConfig({ temperature: null }, ''), {}, 'null is absent')
  for (const top_k of [0, -1])
    t.strictSame(parseGenerationConfig({ top_k }, ''), { topK: 0 }, 'none')
  for (const [key, value] of [
    ['temperature', -1],
    ['top_p', 1.5],
    ['top_k', 2.5],
    ['top_k', -2],
    ['do_sample', 'yes'],
    ['repetition_penalty', 0],
    ['eos_token_id', {}],
  ] as const) {
    t.throws(() => parseGenerationConfig({ [key]: value }, 'g.json'), {
      code: 'ERR_BAD_CONFIG',
      message: new RegExp(`g\\.json: ${key} is `),
    })
  }
})

t.test('reading from a directory', async t => {
  const root = t.testdir({})
  const directory = join(root, 'model')
  mkdirSync(directory)
  await t.rejects(readModel(directory), {
    code: 'ERR_NOT_FOUND',
    message: /config\.json: no such file/,
  })
  t.strictSame(await readGenerationConfig(directory), {}, 'generation_config.json may be missing')
  writeFileSync(join(directory, 'config.json'), JSON.stringify(RELEASED))
  writeFileSync(join(directory, 'generation_config.json'), '{"top_k": 5}')
  t.equal((await readModel(directory)).config.experts, 20)
  t.strictSame(await readGenerationConfig(directory), { topK: 5 })
  writeFileSync(join(directory, 'config.json'), '{"vocab_size": 1, "vocab_size": 2}')
  await t.rejects(readModel(directory), {
    code: 'ERR_BAD_FILE',
    message: /"vocab_size" occurs twice/,
  })
})
