/**
 * ZEDA's Qwen3-MoE++ (arXiv 2605.18643): Qwen3-MoE with zero-computation experts after the others,
 * as ZEDA's transformers code computes it: docs/models/qwen3-moe-plus-plus.md.
 */
import type { Fields } from '../base/fields.js'
import { show } from '../base/json.js'
import type { Family } from './family.js'
import { describeQwen3Moe, type ZeroComputation } from './qwen3-moe.js'

export const qwen3MoePlusPlus: Family = {
  name: 'qwen3-moe-plus-plus',
  architectures: ['Qwen3MoePlusPlusForCausalLM'],
  modelTypes: ['qwen3_moe_plus_plus'],
  describe: fields => describeQwen3Moe(fields, 'qwen3-moe-plus-plus', zeroComputation),
}

const KINDS = ['zero', 'copy', 'constant'] as const
/** With the FFN experts these are the runs that a kernel takes: kMostExpertRuns. */
const MOST_RUNS = 7

/** Without these keys, upstream has 64 copy experts that are never chosen. */
function zeroComputation(fields: Fields): ZeroComputation {
  const counts = fields.integers('zce_nums', [64])
  const types = fields.take('zce_types') ?? ['copy']
  if (!Array.isArray(types) || types.length !== counts.length) {
    throw fields.bad(
      `zce_types is ${show(types)}, expected one for each of zce_nums ${show(counts)}`,
    )
  }
  const runs: { kind: (typeof KINDS)[number]; count: number }[] = []
  for (const [i, count] of counts.entries()) {
    const kind = KINDS.find(known => known === types[i])
    if (!kind) throw fields.bad(`zce_types has ${show(types[i])}, expected ${KINDS.join(', ')}`)
    const last = runs.at(-1)
    if (last?.kind === kind) last.count += count
    else if (count > 0) runs.push({ kind, count })
  }
  if (runs.length > MOST_RUNS)
    throw fields.bad(
      `zce_types changes ${runs.length - 1} times, expected at most ${MOST_RUNS - 1}`,
    )
  return { runs, masked: fields.boolean('use_zce_mask', true) }
}
