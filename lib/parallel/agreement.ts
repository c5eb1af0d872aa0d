/** The words that ranks exchange while they load. */
import { createHash } from 'node:crypto'
import type { NativeGroup } from '../addon/binding.js'
import { show } from '../base/json.js'
import { MoeppError } from '../errors.js'

/** All that must be equal on every rank, by name. */
export type Facts = Readonly<Record<string, string | number | boolean | null>>

/** A value that is too long to send, or to show. */
export function digestOf(value: unknown): string {
  return createHash('sha256').update(JSON.stringify(value)).digest('hex').slice(0, 16)
}

/** The words of each rank, by rank. Waits for all, however long they take. */
export async function tellAll<T>(group: NativeGroup, words: T): Promise<T[]> {
  const bytes = Buffer.from(JSON.stringify(words))
  const all = await group.exchange(new Array(group.size).fill(bytes), true)
  return all.map((each, rank) => {
    try {
      return JSON.parse(Buffer.from(each).toString()) as T
    } catch (cause) {
      const what = `what rank ${rank} says while it loads cannot be read`
      throw new MoeppError('ERR_PARALLEL', what, { cause })
    }
  })
}

/** Rank 0 goes first, so that it downloads what the others then find. */
export async function afterFirst<T>(group: NativeGroup, task: () => Promise<T>): Promise<T> {
  const first = group.rank === 0 ? await task() : undefined
  await tellAll(group, null)
  return first ?? task()
}

/**
 * Compares the facts of all ranks. Every rank finds the same difference.
 * @throws MoeppError ERR_PARALLEL
 */
export async function agree(group: NativeGroup, facts: Facts): Promise<void> {
  const all = await tellAll(group, facts)
  const expected = all[0]!
  for (const [rank, got] of all.entries()) {
    const names = new Set([...Object.keys(expected), ...Object.keys(got)])
    const name = [...names].find(each => expected[each] !== got[each])
    if (name === undefined) continue
    throw new MoeppError(
      'ERR_PARALLEL',
      `${name}: rank 0 has ${show(expected[name])}, rank ${rank} has ${show(got[name])}; expected the same on every rank`,
    )
  }
}
