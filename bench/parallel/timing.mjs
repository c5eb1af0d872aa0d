// Times of short works, in turns.
export const median = values => {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length / 2
  return (sorted[Math.ceil(middle) - 1] + sorted[Math.floor(middle)]) / 2
}

/** Median seconds of each work, one after the other in each turn. `before` runs ahead of each. */
export async function medianSeconds(works, turns, before = async () => {}, repeats = 1) {
  const found = works.map(() => [])
  for (const work of works) await work()
  for (let turn = 0; turn < turns; turn++) {
    for (const [i, work] of works.entries()) {
      await before()
      const began = performance.now()
      for (let repeat = 0; repeat < repeats; repeat++) await work()
      found[i].push((performance.now() - began) / 1000 / repeats)
    }
  }
  return found.map(median)
}

/** Work that takes less is repeated within a turn. */
const SHORTEST_MS = 2

export async function repeatsOf(work) {
  await work()
  const began = performance.now()
  await work()
  return Math.max(1, Math.ceil(SHORTEST_MS / (performance.now() - began)))
}
