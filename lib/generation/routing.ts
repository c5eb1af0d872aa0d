/** Records the experts that the tokens of a sequence went to. */
import type { ResolvedOptions } from '../options/generate.js'
import { ffnMask, type Router } from '../program/model-spec.js'
import { kindsOf } from '../program/moe-ops.js'
import { CaptureRecorder } from './capture.js'
import type { ChunkRouting, ExpertCounts, Routing } from './results.js'

export function routingNames(routers: readonly Router[]): string[] {
  return routers.flatMap(({ indices, weights }) => [indices, weights])
}

/** FFN experts per token and layer, over the tokens of all texts; 0 without tokens. */
export function meanFfnExperts(routings: readonly (Routing | undefined)[]): number {
  let tokens = 0
  let experts = 0
  for (const routing of routings) {
    if (!routing) continue
    tokens += routing.tokens
    experts += routing.tokens * routing.ffnExpertsPerToken
  }
  return tokens > 0 ? experts / tokens : 0
}

/** That of neighbouring chunks as one. */
export class JoinedRouting {
  #head: ChunkRouting | undefined
  #experts: number[] = []

  add(next: ChunkRouting | undefined): void {
    if (!next) return
    this.#head ??= next
    for (const experts of next.ffnExperts) this.#experts.push(experts)
  }

  get isLeft(): boolean {
    return this.#head !== undefined
  }

  /** All that was added since the last call; undefined if nothing was. */
  take(): ChunkRouting | undefined {
    const joined = this.#head && { ...this.#head, ffnExperts: this.#experts }
    this.#head = undefined
    this.#experts = []
    return joined
  }
}

/** Keeps the rows of the buffers `routingNames`, or their counts alone. */
export class RoutingRecorder {
  readonly #routers: readonly Router[]
  readonly #rows: CaptureRecorder | undefined
  readonly #recent: RecentTokens | undefined
  /** By the name of the layer's weights. */
  readonly #counters: ReadonlyMap<string, Counter>
  /** The rows that came last: a layer's indices come before its weights. */
  #indices: Int32Array = new Int32Array()
  #first: number | undefined

  /** `tells`: `takeRecent` is called now and then. */
  constructor(
    kind: Exclude<ResolvedOptions['routing'], false>,
    routers: readonly Router[],
    tells = false,
  ) {
    this.#routers = routers
    if (kind !== 'counts') this.#rows = new CaptureRecorder()
    if (tells) this.#recent = new RecentTokens(routers.length)
    this.#counters = new Map(routers.map(router => [router.weights, new Counter(router)]))
  }

  /** As SequenceConsumer.captured. */
  add(name: string, rows: Int32Array | Float32Array, position: number): void {
    this.#first ??= position
    this.#rows?.add(name, rows)
    if (rows instanceof Int32Array) this.#indices = rows
    else {
      const counter = this.#counters.get(name)!
      const recent = this.#recent
      counter.add(this.#indices, rows, (t, experts) => recent?.add(position + t, experts))
    }
  }

  /** The FFN experts of the tokens since the last call; undefined if there are none. */
  takeRecent(): ReturnType<RecentTokens['take']> {
    return this.#recent?.take()
  }

  result(): Routing {
    const counts = [...this.#counters.values()].map(counter => counter.counts)
    const tokens = sum(counts[0]?.tokens ?? [])
    const picks = sum(counts.map(layer => sum(layer.tokens.map((count, k) => count * k))))
    return {
      first: this.#first ?? 0,
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

  /** @param indices, weights [T, K]; `onToken` gets the FFN experts of each token */
  add(
    indices: Int32Array,
    weights: Float32Array,
    onToken: (token: number, experts: number) => void,
  ): void {
    for (let at = 0; at < indices.length; at += this.#topK) {
      let experts = 0
      for (let i = at; i < at + this.#topK; i++)
        if (this.#isFfn[indices[i]!] && weights[i]! > 0) experts++
      this.counts.tokens[experts]!++
      onToken(at / this.#topK, experts)
    }
  }
}

/** Adds up the FFN experts of each token over the layers, until they are taken. */
class RecentTokens {
  readonly #layers: number
  #first = 0
  #sums: number[] = []

  constructor(layers: number) {
    this.#layers = layers
  }

  /** Positions follow each other. Each comes once for each layer. */
  add(position: number, experts: number): void {
    if (this.#sums.length === 0) this.#first = position
    const at = position - this.#first
    this.#sums[at] = (this.#sums[at] ?? 0) + experts
  }

  take(): Pick<ChunkRouting, 'first' | 'ffnExperts'> | undefined {
    const [first, sums] = [this.#first, this.#sums]
    if (sums.length === 0) return undefined
    this.#sums = []
    return { first, ffnExperts: sums.map(experts => experts / this.#layers) }
  }
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, each) => total + each, 0)
}
