// Steps of a model in a group, as simulate.mjs predicts them: their times and their counts.
import { Sequences } from '../../dist/benchmark/sequences.js'
import { inTurns } from './timing.mjs'

const COUNTS = ['bytesSent', 'messagesSent', 'picks', 'localPicks']

/** Seconds of each step in each turn, and the group's counts of one turn. */
async function measured(group, steps, turns) {
  const before = group?.info()
  const seconds = await inTurns(steps, turns)
  const after = group?.info()
  // The first turn warms up; it counts all the same.
  const counts =
    group && Object.fromEntries(COUNTS.map(of => [of, (after[of] - before[of]) / (turns + 1)]))
  return { seconds, counts }
}

/**
 * A rank prefills its sequences, one a step, and decodes them together behind their prompts.
 *
 * @param job `windows`: texts of token ids of all ranks' sequences, those of rank 0 first
 */
export async function runSteps({ runner }, job, group) {
  const { windows, prompt, length, sequences, turns } = job
  const first = (group?.rank ?? 0) * sequences
  const tokenOf = (sequence, position) => windows[first + sequence][position]
  const texts = new Sequences(runner, Array(sequences).fill(length), tokenOf)
  // The group's steps are those of this rank: none is without its tokens.
  await runner.wakes?.()
  await texts.prefill(sequences, prompt)
  const decode = await measured(
    group,
    Array.from({ length: length - prompt }, (_, i) => () => texts.decode(sequences, prompt + i, 1)),
    turns,
  )
  const alone = Array.from(
    { length: sequences },
    (_, sequence) => new Sequences(runner, [length], (_, position) => tokenOf(sequence, position)),
  )
  const prefill = await measured(
    group,
    alone.map(one => () => one.prefill(1, prompt)),
    turns,
  )
  runner.rests?.()
  await runner.close()
  return { prefill, decode }
}
