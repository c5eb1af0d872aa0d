/** The ranks of a group that hold each FFN expert. */
import { isObject, show } from '../base/json.js'
import { MoeppError } from '../errors.js'
import type { RankExperts } from './moe-ops.js'

/** Of each FFN expert of a layer, the ranks that hold it, at least one. */
export type Holders = readonly (readonly number[])[]

/** The place of a rank in its group, and the FFN experts that each rank holds. */
export class Placement {
  readonly rank: number
  readonly size: number
  readonly #layers: ReadonlyMap<number, Holders> | undefined

  /** @param layers by number; default: neighbouring experts, as equally many as possible */
  constructor(rank: number, size: number, layers?: ReadonlyMap<number, Holders>) {
    this.rank = rank
    this.size = size
    this.#layers = layers
  }

  /** Equal for equal placements, whatever the rank. */
  get words(): string {
    return JSON.stringify([this.size, ...(this.#layers ?? [])])
  }

  /**
   * A pick goes to the own rank if that holds the expert. Copies share the picks of other ranks.
   * @throws MoeppError ERR_UNSUPPORTED if a rank has no expert, ERR_BAD_FILE if the placement
   *   does not fit the layer
   */
  share(layer: number, experts: number): RankExperts {
    const holders = this.#holders(layer, experts)
    const held = holders.flatMap((ranks, expert) => (ranks.includes(this.rank) ? [expert] : []))
    const destinations = holders.map(ranks =>
      ranks.includes(this.rank) ? this.rank : ranks[this.rank % ranks.length]!,
    )
    return { ranks: this.size, destinations, held }
  }

  #holders(layer: number, experts: number): Holders {
    if (this.size > experts) {
      throw new MoeppError(
        'ERR_UNSUPPORTED',
        `layers.${layer}: ${experts} FFN experts for ${this.size} ranks, expected a rank at most for each expert`,
      )
    }
    if (!this.#layers) return neighbours(experts, this.size)
    const holders = this.#layers.get(layer)
    if (holders?.length === experts) return holders
    throw new MoeppError(
      'ERR_BAD_FILE',
      `placement: layer ${layer} has ${holders?.length ?? 'no'} experts, expected ${experts}`,
    )
  }
}

/** Expert n at rank floor(n W / N). */
export function neighbours(experts: number, size: number): Holders {
  return Array.from({ length: experts }, (_, n) => [Math.floor((n * size) / experts)])
}

/**
 * The content of a placement file for a group of `size` ranks.
 * @throws MoeppError ERR_BAD_FILE that names the place
 */
export function parsePlacement(json: unknown, where: string, size: number): Map<number, Holders> {
  const bad = (message: string) => new MoeppError('ERR_BAD_FILE', `${where}: ${message}`)
  const { ranks, layers } = isObject(json) ? json : {}
  if (!Array.isArray(layers))
    throw bad('expected {"ranks": W, "layers": [{"layer": N, "experts": [...]}, ...]}')
  if (ranks !== size) throw bad(`is for ${show(ranks)} ranks, but the group has ${size}`)
  const parsed = new Map<number, Holders>()
  for (const [i, each] of layers.entries()) {
    const { layer, experts } = isObject(each) ? each : {}
    if (!Number.isSafeInteger(layer) || !Array.isArray(experts))
      throw bad(`layers[${i}]: expected {"layer": N, "experts": [[RANK, ...], ...]}`)
    if (parsed.has(layer as number)) throw bad(`layers[${i}]: layer ${layer} is there twice`)
    const problem = problemOf(experts, size)
    if (problem !== undefined) throw bad(`layers[${i}]${problem}`)
    parsed.set(layer as number, experts)
  }
  return parsed
}

/** The first mistake in the ranks of a layer's experts. */
function problemOf(experts: readonly unknown[], size: number): string | undefined {
  const wrong = experts.findIndex(ranks => !areRanks(ranks, size))
  if (wrong !== -1) {
    const expected = `different ranks from 0 to ${size - 1}, at least one`
    return `.experts[${wrong}]: expected ${expected}, got ${show(experts[wrong])}`
  }
  const busy = new Set((experts as Holders).flat())
  const idle = Array.from({ length: size }, (_, rank) => rank).find(rank => !busy.has(rank))
  return idle === undefined ? undefined : `: rank ${idle} holds no expert, expected one at least`
}

function areRanks(value: unknown, size: number): value is number[] {
  return (
    Array.isArray(value) &&
    value.length > 0 &&
    value.every(rank => Number.isSafeInteger(rank) && rank >= 0 && rank < size) &&
    new Set(value).size === value.length
  )
}
