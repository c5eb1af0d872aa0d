// Steps of a model in a group, as simulate.mjs predicts them: their times and their counts.
import { Sequences } from '../../dist/benchmark/sequences.js'

const COUNTS = ['bytesSent', 'messagesSent', 'picks', 'localPicks']

/** Seconds of each of `rounds` works, and what the group has counted in all of them. */
async function measured(group, rounds, work) {
  const before = group?.info()
  const seconds = []
  for (let round = 0; round < rounds; round++) {
    const began = performance.now()
    await work()
    seconds.push((performance.now() - began) / 1000)
  }
  const after = group?.info()
  const counts = group && Object.fromEntries(COUNTS.map(of => [of, after[of] - before[of]]))
  return { seconds, counts }
}

/**
 * A rank prefills its sequences, one a step, and decodes them together behind their prompts; all of
 * it `rounds` times.
 *
 * @param job `windows`: texts of token ids of all ranks' sequences, those of rank 0 first
 */
export async function runSteps({ runner }, job, group) {
  const { windows, prompt, length, sequences, rounds } = job
  const first = (group?.rank ?? 0) * sequences
  const tokenOf = (sequence, position) => windows[first + sequence][position]
  // A step has one sequence's prompt.
  const view = new Proxy(runner, {
    get: (of, name) => {
      if (name === 'maxStepTokens') return prompt
      const value = of[name]
      return typeof value === 'function' ? value.bind(of) : value
    },
  })
  const texts = new Sequences(view, Array(sequences).fill(length), tokenOf)
  // Each of the group's steps is one of this rank: none is without its tokens.
  await runner.wakes?.()
  await texts.prefill(sequences, prompt)
  const prefill = await measured(group, rounds, () => texts.prefill(sequences, prompt))
  const decode = await measured(group, rounds, () =>
    texts.decode(sequences, prompt, length - prompt),
  )
  runner.rests?.()
  await runner.close()
  return { prefill, decode }
}
