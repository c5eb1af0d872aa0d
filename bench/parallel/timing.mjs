// Times of short works, in turns. A quantile of the turns counts; 0.5 is the median. Other work of
// the machine adds time and takes none away, so a lower one suits a machine that has some.

/** The value below which the share `q` of the others lies; between two, the mean of both. */
export function quantile(values, q) {
  const sorted = values.toSorted((a, b) => a - b)
  const at = q * (sorted.length - 1)
  return (sorted[Math.floor(at)] + sorted[Math.ceil(at)]) / 2
}

/**
 * Seconds of each work in each turn. The works of a turn follow each other; `before` runs ahead of
 * each.
 */
export async function inTurns(works, turns, before = async () => {}, repeats = 1) {
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
  return found
}

/** Work that takes less is repeated within a turn. */
const SHORTEST_MS = 1

export async function repeatsOf(work) {
  await work()
  const began = performance.now()
  await work()
  return Math.max(1, Math.ceil(SHORTEST_MS / (performance.now() - began)))
}
