/** Spreads FFN experts over ranks by the picks that texts gave them. */
import { MoeppError } from '../errors.js'
import { type Holders, neighbours } from '../program/placement.js'
import type { LayerStatistics } from './types.js'

export interface PlacedLayer {
  readonly layer: number
  /** Of each FFN expert the ranks that hold it, ascending. */
  readonly experts: Holders
  /** The busiest rank's picks by the mean: of neighbours, and of this placement. */
  readonly imbalance: { readonly neighbours: number; readonly placed: number }
}

/** A rank as it fills up. */
interface Rank {
  load: number
  readonly held: Set<number>
}

/**
 * Copies go to the experts with the most picks, as many as make the busiest rank least busy. The
 * busiest first goes to the idlest rank that has room.
 *
 * @param copies experts on a rank beside its equal part of them, at most
 */
export function placeExperts(
  { layer, kinds, picks }: Pick<LayerStatistics, 'layer' | 'kinds' | 'picks'>,
  size: number,
  copies: number,
): PlacedLayer {
  const loads = picks.filter((_, expert) => kinds[expert] === 'ffn')
  if (loads.length < size) {
    const message = `layer ${layer} has ${loads.length} FFN experts, expected at least ${size}, as many as ranks`
    throw new MoeppError('ERR_UNSUPPORTED', message)
  }
  const room = Math.ceil(loads.length / size) + copies
  const holders = loads.map(() => 1)
  let experts = spread(loads, holders, size, room)
  let placed = imbalance(experts, loads, size)
  for (let extra = 0; extra < copies * size; extra++) {
    const busiest = largest(loads.map((load, e) => (holders[e]! < size ? load / holders[e]! : -1)))
    if (holders[busiest]! >= size) break
    holders[busiest]!++
    const next = spread(loads, holders, size, room)
    const nextPlaced = imbalance(next, loads, size)
    if (nextPlaced < placed) [experts, placed] = [next, nextPlaced]
  }
  const before = imbalance(neighbours(loads.length, size), loads, size)
  return { layer, experts, imbalance: { neighbours: before, placed } }
}

const largest = (numbers: readonly number[]) => numbers.indexOf(Math.max(...numbers))

/** Each expert at so many ranks, with an even part of its load at each. */
function spread(
  loads: readonly number[],
  holders: readonly number[],
  size: number,
  room: number,
): Holders {
  const ranks = Array.from({ length: size }, (): Rank => ({ load: 0, held: new Set() }))
  const parts = loads.flatMap((load, expert) =>
    Array.from({ length: holders[expert]! }, () => ({ expert, load: load / holders[expert]! })),
  )
  for (const { expert, load } of parts.sort((a, b) => b.load - a.load)) {
    const rank = idlest(ranks.filter(({ held }) => held.size < room && !held.has(expert)))
    rank?.held.add(expert)
    if (rank) rank.load += load
  }
  return loads.map((_, expert) =>
    ranks.flatMap(({ held }, rank) => (held.has(expert) ? [rank] : [])),
  )
}

/** Of equal ones the emptiest, so that every rank gets an expert. */
function idlest(ranks: readonly Rank[]): Rank | undefined {
  return [...ranks].sort((a, b) => a.load - b.load || a.held.size - b.held.size)[0]
}

/** Of the ranks' picks: the most by the mean; 1 is even. */
function imbalance(experts: Holders, loads: readonly number[], size: number): number {
  const ranks = new Array<number>(size).fill(0)
  for (const [expert, holders] of experts.entries())
    for (const rank of holders) ranks[rank]! += loads[expert]! / holders.length
  const total = ranks.reduce((sum, load) => sum + load, 0)
  return total === 0 ? 1 : (Math.max(...ranks) * size) / total
}
