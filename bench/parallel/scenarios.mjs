// The questions: many ranks, one text and its vanilla twin, placements, a second machine.
import { costsOf } from './costs.mjs'
import { simulate } from './model.mjs'
import { contiguous, greedy } from './placements.mjs'
import { decode, groupsOf, prefill, sequencesOf, spread } from './workload.mjs'

const SEED = 1

/** The steps of a phase, of ranks that have so many sequences each. */
function stepsOf(phase, counts, picks, { prompt, steps, windows }) {
  const sequences = sequencesOf(counts, windows, steps, SEED)
  if (phase === 'decode') return { steps, tokensOf: decode(sequences, prompt, steps), picks }
  const most = Math.max(...counts)
  return { steps: Math.min(most, steps), tokensOf: prefill(sequences, prompt), picks }
}

/** [layer][rank][expert] for a placement's name. */
function placed(name, picks, size, { copies, windows }) {
  if (name === 'contiguous') return contiguous(picks, size)
  return greedy(picks, size, name === 'greedy' ? 0 : copies, windows)
}

/**
 * One number of ranks, in all phases. Ranks beyond the number of experts are several groups.
 *
 * @param text `picks` of the model and of the twin. `windows`: those from the first on that
 *   sequences have. Placements are made from the others
 */
export function ranksOf(ranks, { text, costs, network, plan }) {
  const divided = groupsOf(ranks, text.model.experts)
  if (divided === undefined) return []
  const { groups, size } = divided
  const names = size === 1 ? ['contiguous'] : ['contiguous', 'greedy', 'copies']
  const variants = [
    ...names.map(placement => ({ model: 'model', placement })),
    { model: 'twin', placement: 'contiguous' },
  ].map(each => ({ ...each, to: placed(each.placement, text[each.model], size, plan) }))
  return ['decode', 'prefill'].flatMap(phase =>
    variants.map(({ to, ...variant }) => {
      const picks = text[variant.model]
      const counts = Array(size).fill(plan.sequences)
      const result = simulate({
        ...stepsOf(phase, counts, picks, plan),
        to,
        costs: costsOf(costs, phase, size, network),
      })
      const tokensPerSecond = groups * result.tokensPerSecond
      return { ...result, phase, ...variant, ranks, groups, tokensPerSecond }
    }),
  )
}

/** Adds tokens/s by those of one rank with as many sequences, for each. */
export function withEfficiency(rows) {
  return rows.map(row => {
    const one = rows.find(
      ({ ranks, phase, model }) => ranks === 1 && phase === row.phase && model === row.model,
    )
    return {
      ...row,
      efficiency: one ? row.tokensPerSecond / row.ranks / one.tokensPerSecond : null,
    }
  })
}

/**
 * Decoding of the same sequences on one machine and on two, in seconds a step.
 * @param counts numbers of sequences
 */
export function secondMachine(counts, { text, costs, network, plan }) {
  return ['model', 'twin'].flatMap(model =>
    counts.map(sequences => {
      const picks = text[model]
      const [one, two] = [1, 2].map(size =>
        simulate({
          ...stepsOf('decode', spread(sequences, size), picks, plan),
          to: contiguous(picks, size),
          costs: costsOf(costs, 'decode', size, network),
        }),
      )
      return { model, sequences, one: one.seconds, two: two.seconds }
    }),
  )
}

/** The prediction of runSteps: ranks of this machine. `sequences` of each. */
export function predicted(ranks, model, phase, { text, costs, plan }) {
  const picks = text[model]
  return simulate({
    ...stepsOf(phase, Array(ranks).fill(plan.sequences), picks, plan),
    ...(phase === 'prefill' && { steps: plan.sequences }),
    to: contiguous(picks, ranks),
    costs: costsOf(costs, phase, ranks),
  })
}

/** Shares of bytes that zero-computation experts should save: the paper's, and of these picks. */
export function idealSaving({ zeroComputation, experts }, tau, picks) {
  return {
    even: zeroComputation / (tau * experts + zeroComputation),
    recorded: 1 - picks.ffnShare,
  }
}
