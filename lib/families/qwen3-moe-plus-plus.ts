/**
 * ZEDA's Qwen3-MoE++ (arXiv 2605.18643): Qwen3-MoE with zero-computation experts after the others,
 * as ZEDA's transformers code computes it: docs/models/qwen3-moe-plus-plus.md.
 */
import type { Family } from './family.js'
import { describeQwen3Moe } from './qwen3-moe.js'
import { zeroComputation } from './zero-computation.js'

export const qwen3MoePlusPlus: Family = {
  name: 'qwen3-moe-plus-plus',
  architectures: ['Qwen3MoePlusPlusForCausalLM'],
  modelTypes: ['qwen3_moe_plus_plus'],
  describe: fields => describeQwen3Moe(fields, 'qwen3-moe-plus-plus', zeroComputation),
}
