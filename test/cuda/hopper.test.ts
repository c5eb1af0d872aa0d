/**
 * A prompt through the kernels for Hopper (TMA, wgmma), beside the CPU. On an emulated GPU of
 * compute capability 9.0.
 */
import './gpu.js'
import t from 'tap'
import { directoryWith } from '../checkpoint/files.js'
import { Random, randomCheckpoint } from '../reference/random-checkpoint.js'

process.env.MOEPP_EMULATED_GPU = 'hopper'

const { loadModel } = await import('../../lib/index.js')

/**
 * Every matrix gives each of the emulated GPU's 2 multiprocessors a tile of 128 x 128: then
 * choose_gemm takes wgmma.
 */
const T = 300
const V = 128
const CONFIG = {
  vocab_size: V,
  hidden_size: 128,
  intermediate_size: 64,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  max_position_embeddings: 2048,
  rope_scaling: null,
  num_experts: [6],
  moe_2layer_gate: false,
  moe_gate_norm_std: 1,
}

/**
 * From the embedding to the logits six products and attention's two each round their activations to
 * bf16, by at most 2^-9 of each term. The terms of a sum of n = 128 random products are as large
 * together as 0.8 sqrt(n) = 9 times the sum's deviation.
 */
const MOST_ERROR = 8 * 9 * 2 ** -9

const deviation = (values: ArrayLike<number>) =>
  Math.sqrt(Array.from(values).reduce((sum, x) => sum + x * x, 0) / values.length)

t.test('a prompt in bfloat16', async t => {
  const { files } = randomCheckpoint(4, CONFIG)
  const directory = directoryWith(t.testdir(), 'model', files)
  const ids = new Random(1).ids(T, V)
  const forward = async (device: 'cpu' | 'cuda') => {
    const options = {
      device,
      dtype: 'bfloat16',
      kvCacheDtype: 'bfloat16',
      kvCacheTokens: 512,
    } as const
    await using model = await loadModel(directory, options)
    if (device === 'cuda' && !process.env.MOEPP_TEST_GPU) t.equal(model.device.isa, 'sm_90')
    return await model.forward(ids, { capture: ['layers.0.expert_indices'] })
  }
  const want = await forward('cpu')
  const got = await forward('cuda')
  const picks = (result: typeof want, p: number) => {
    const indices = result.captured['layers.0.expert_indices']!
    return [indices[2 * p]!, indices[2 * p + 1]!].sort().join()
  }
  const scale = deviation(want.logits)
  let compared = 0
  let worst = 0
  for (let p = 0; p < T; p++) {
    if (picks(want, p) !== picks(got, p)) continue
    compared++
    for (let v = p * V; v < (p + 1) * V; v++) {
      worst = Math.max(worst, Math.abs(got.logits[v]! - want.logits[v]!) / scale)
    }
  }
  t.ok(
    worst > 0 && worst <= MOST_ERROR,
    `logits off by ${worst} of their deviation, allowed ${MOST_ERROR}`,
  )
  t.ok(compared >= 0.95 * T, `${compared} of ${T} tokens have the CPU's experts`)
})
