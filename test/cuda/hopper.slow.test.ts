/**
 * A prompt through the kernels for Hopper (TMA, wgmma), beside the CPU. On a real Hopper, or an
 * emulated one.
 */
import './gpu.js'
import t from 'tap'
import { directoryWith } from '../checkpoint/files.js'
import { Random } from '../reference/random-checkpoint.js'
import { randomMoepp } from '../reference/random-moepp.js'
import { onGpu } from './gpu.js'

process.env.MOEPP_EMULATED_GPU = 'hopper'

const { loadModel } = await import('../../lib/index.js')
const { loadBinding } = await import('../../lib/addon/binding.js')
const { openDevice } = await import('../../lib/addon/device.js')

const device = openDevice('cuda:0')
const { multiprocessors, isa } = device.info()
device.close()

/**
 * choose_gemm takes wgmma where whole tiles of 128 rows by 128 outputs give every multiprocessor
 * one. Every matrix has H outputs or more, and T rows or more. T is a step's most tokens.
 */
const T = onGpu ? 2048 : 300
const H = 128 * Math.ceil(multiprocessors / Math.floor(T / 128))
const V = H
const CONFIG = {
  vocab_size: V,
  hidden_size: H,
  intermediate_size: H / 2,
  num_hidden_layers: 1,
  num_attention_heads: H / 64,
  num_key_value_heads: 1,
  max_position_embeddings: 4096,
  rope_scaling: null,
  num_experts: [6],
  moe_2layer_gate: false,
  moe_gate_norm_std: 1,
}

/**
 * From the embedding to the logits six products and attention's two each round their activations to
 * bf16, by at most 2^-9 of each term. The terms of a sum of n = H random products are as large
 * together as 0.8 sqrt(n) times the sum's deviation: 9 times for H = 128.
 */
const MOST_ERROR = 8 * 0.8 * Math.sqrt(H) * 2 ** -9
/** Errors of terms are independent: the mean square stays below one rounding of each of the 8. */
const MEAN_ERROR = 8 * 2 ** -9

/** qkv, o, gate and up, down, the output head. */
const PRODUCTS = 5
const productsBySm90 = () => loadBinding().cuda().products.at(-1)!

const deviation = (values: ArrayLike<number>) =>
  Math.sqrt(Array.from(values).reduce((sum, x) => sum + x * x, 0) / values.length)

const skip = onGpu && isa !== 'sm_90a' && `${isa} has no wgmma`

t.test('a prompt in bfloat16', { skip }, async t => {
  const { files } = randomMoepp(4, CONFIG)
  const directory = directoryWith(t.testdir(), 'model', files)
  const ids = new Random(1).ids(T, V)
  const forward = async (device: 'cpu' | 'cuda') => {
    const options = {
      device,
      dtype: 'bfloat16',
      kvCacheDtype: 'bfloat16',
      kvCacheTokens: 2 * T,
    } as const
    await using model = await loadModel(directory, options)
    const before = productsBySm90()
    const result = await model.forward(ids, { capture: ['layers.0.expert_indices'] })
    if (device === 'cuda') t.equal(productsBySm90() - before, PRODUCTS, 'products by wgmma')
    return result
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
  let squares = 0
  for (let p = 0; p < T; p++) {
    if (picks(want, p) !== picks(got, p)) continue
    compared++
    for (let v = p * V; v < (p + 1) * V; v++) {
      const error = Math.abs(got.logits[v]! - want.logits[v]!) / scale
      worst = Math.max(worst, error)
      squares += error ** 2
    }
  }
  const mean = Math.sqrt(squares / (compared * V))
  t.ok(mean <= MEAN_ERROR, `logits off by ${mean} of their deviation, allowed ${MEAN_ERROR}`)
  t.ok(
    worst > 0 && worst <= MOST_ERROR,
    `logits off by ${worst} of their deviation, allowed ${MOST_ERROR}`,
  )
  t.ok(compared >= 0.95 * T, `${compared} of ${T} tokens have the CPU's experts`)
})
