// The ranks of experts: [layer][rank][expert] is the one that a rank's picks of an expert go to, as
// moepp has it.
import { Placement } from '../../dist/program/placement.js'
import { placeExperts } from '../../dist/routing/placement.js'

/** Neighbours. */
export function contiguous(picks, size) {
  return destinations(picks, size)
}

/** By the loads of windows from `first` on, greedily, with so many copies at most. */
export function greedy(picks, size, copies, first) {
  const layers = new Map(
    Array.from({ length: picks.layers }, (_, layer) => {
      const loads = picks.loads(layer, first)
      const kinds = loads.map(() => 'ffn')
      return [layer, placeExperts({ layer, kinds, picks: loads }, size, copies).experts]
    }),
  )
  return destinations(picks, size, layers)
}

function destinations({ layers, experts }, size, holders) {
  const ranks = Array.from({ length: size }, (_, rank) => new Placement(rank, size, holders))
  return Array.from({ length: layers }, (_, layer) =>
    ranks.map(rank => rank.share(layer, experts).destinations),
  )
}
