/** Records the experts that the tokens of a sequence went to. */
import type { ResolvedOptions } from '../options/generate.js'
import { ffnMask, type Router } from '../program/model-spec.js'
import { kindsOf } from '../program/moe-ops.js'
import { CaptureRecorder } from './capture.js'
import type { ExpertCounts, Routing } from './results.js'

export function routingNames(routers: readonly Router[]): string[] {
  return routers.flatMap(({ indices, weights }) => [indices, weights])
}

/** Keeps the rows of the buffers `routingNames`, or their counts alone. */
export class RoutingRecorder {
  readonly #routers: readonly Router[]
  readonly #rows: CaptureRecorder | undefined
  /** By the name of the layer's weights. */
  readonly #counters: ReadonlyMap<string, Counter>
  /** The rows that came last: a layer's indices come before its weights. */
  #indices: Int32Array = new Int32Array()

  constructor(kind: Exclude<ResolvedOptions['routing'], false>, routers: readonly Router[]) {
    this.#routers = routers
    if (kind !== 'counts') this.#rows = new CaptureRecorder()
    this.#counters = new Map(routers.map(router => [router.weights, new Counter(router)]))
  }

  add(name: string, rows: Int32Array | Float32Array): void {
    this.#rows?.add(name, rows)
    if (rows instanceof Int32Array) this.#indices = rows
    else this.#counters.get(name)!.add(this.#indices, rows)
  }

  result(): Routing {
    const counts = [...this.#counters.values()].map(counter => counter.counts)
    const tokens = sum(counts[0]?.tokens ?? [])
    const picks = sum(counts.map(layer => sum(layer.tokens.map((count, k) => count * k))))
    return {
      tokens,
      layers: this.#layers(),
      counts,
      ffnExpertsPerToken: tokens === 0 ? 0 : picks / (tokens * counts.length),
    }
  }

  #layers(): Routing['layers'] {
    const recorder = this.#rows
    if (!recorder) return []
    return this.#routers.map(({ layer, topK, experts, indices, weights }) => ({
      layer,
      topK,
      kinds: kindsOf(experts),
      expertIndices: (recorder.rows(indices) ?? new Int32Array()) as Int32Array,
      expertWeights: (recorder.rows(weights) ?? new Float32Array()) as Float32Array,
    }))
  }
}

/** Counts the tokens of a layer by their FFN experts. */
class Counter {
  readonly counts: ExpertCounts & { readonly tokens: number[] }
  readonly #topK: number
  readonly #isFfn: readonly boolean[]

  constructor({ layer, topK, experts }: Router) {
    this.counts = { layer, tokens: new Array<number>(topK + 1).fill(0) }
    this.#topK = topK
    this.#isFfn = ffnMask(experts)
  }

  /** @param indices, weights [T, K] */
  add(indices: Int32Array, weights: Float32Array): void {
    for (let at = 0; at < indices.length; at += this.#topK) {
      let experts = 0
      for (let i = at; i < at + this.#topK; i++)
        if (this.#isFfn[indices[i]!] && weights[i]! > 0) experts++
      this.counts.tokens[experts]!++
    }
  }
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, each) => total + each, 0)
}
