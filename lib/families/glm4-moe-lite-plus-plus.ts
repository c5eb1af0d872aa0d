/**
 * ZEDA's GLM-4.7-Flash++ (arXiv 2605.18643): GLM-4.7-Flash with zero-computation experts after the
 * others, as ZEDA's transformers code computes it: docs/models/glm4-moe-lite.md.
 */
import type { Family } from './family.js'
import { describeGlm4MoeLite } from './glm4-moe-lite.js'
import { zeroComputation } from './zero-computation.js'

export const glm4MoeLitePlusPlus: Family = {
  name: 'glm4-moe-lite-plus-plus',
  architectures: ['Glm4MoeLitePlusPlusForCausalLM'],
  modelTypes: ['glm4_moe_lite_plus_plus'],
  describe: fields => describeGlm4MoeLite(fields, 'glm4-moe-lite-plus-plus', zeroComputation),
}
