/** Random small models of the other families against the f64 reference. */
import { FAMILIES, type Family, isLatentFamily } from '../support/golden.js'
import { randomOfFamily } from './random-families.js'
import {
  type Checkpoints,
  type Corner,
  cornersOfLength,
  testClarity,
  testCorners,
  testQuantised,
  testRandomModels,
} from './random-tests.js'

const SMALL = {
  vocab_size: 61,
  hidden_size: 40,
  num_attention_heads: 2,
  num_key_value_heads: 1,
}

const CORNERS: readonly Corner[] = [
  {
    name: 'matrices of several tiles',
    config: { ...SMALL, vocab_size: 515, hidden_size: 220, head_dim: 36 },
    lengths: [70, 19],
    steps: 3,
  },
  ...cornersOfLength(SMALL),
]

/** Rows of three blocks of quantised weights, and of two. */
const wide = (family: Family) => ({
  ...SMALL,
  hidden_size: 272,
  intermediate_size: 140,
  ...(family !== 'mixtral' && { moe_intermediate_size: 140 }),
})

for (const family of FAMILIES) {
  if (family === 'moepp' || isLatentFamily(family)) continue
  const checkpoints: Checkpoints = (seed, config) => randomOfFamily(family, seed, config)
  testRandomModels(family, 4, checkpoints)
  testQuantised(family, 6, checkpoints)
  testQuantised(`${family}, wide`, 3, seed => checkpoints(seed, wide(family)))
  testCorners(family, CORNERS, checkpoints)
}
testClarity()
