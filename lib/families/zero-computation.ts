/** Zero-computation experts, as ZEDA's configurations name them (arXiv 2605.18643). */
import type { Fields } from '../base/fields.js'
import { show } from '../base/json.js'
import type { ExpertRuns } from '../program/moe-ops.js'

/** Those after the experts with a network. */
export interface ZeroComputation {
  readonly runs: ExpertRuns
  readonly masked: boolean
}

const KINDS = ['zero', 'copy', 'constant'] as const
/** With the FFN experts these are the runs that a kernel takes: kMostExpertRuns. */
const MOST_RUNS = 7

/** Without these keys, upstream has 64 copy experts that are never chosen. */
export function zeroComputation(fields: Fields): ZeroComputation {
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
