// The FFN experts that the tokens of a text pick in each layer. They were recorded from a model, or
// are resampled for a model of another shape. Nothing here runs a model.
import { randomFrom } from '../synthetic-random.mjs'

/** A pick of a zero-computation expert: it crosses no wire and takes no product. */
export const NONE = 0xffff

/**
 * Windows of a text, all of the same length. `data` has [window][position][layer][k], the number of
 * an FFN expert among those of its layer, or NONE.
 */
export class Picks {
  constructor({ windows, length, layers, topK, experts, data }) {
    const size = windows * length * layers * topK
    Object.assign(this, { windows, length, layers, topK, experts })
    this.data = data ?? new Uint16Array(size).fill(NONE)
    if (this.data.length !== size)
      throw new RangeError(`data: expected ${size} picks, got ${this.data.length}`)
  }

  /** The place of a token's first pick. */
  at(window, position, layer) {
    return ((window * this.length + position) * this.layers + layer) * this.topK
  }

  /** Of each FFN expert of a layer its picks, in windows from `first` on. */
  loads(layer, first = 0) {
    const loads = new Array(this.experts).fill(0)
    for (let window = first; window < this.windows; window++) {
      for (let position = 0; position < this.length; position++) {
        const from = this.at(window, position, layer)
        for (let k = 0; k < this.topK; k++) {
          const expert = this.data[from + k]
          if (expert !== NONE) loads[expert]++
        }
      }
    }
    return loads
  }

  /** Share of the picks that are of FFN experts. */
  get ffnShare() {
    return this.data.reduce((sum, expert) => sum + Number(expert !== NONE), 0) / this.data.length
  }
}

/**
 * Picks of a model of another shape. Its layers take those of the recorded layers in order. A token
 * has as many FFN picks as the recorded one, or as several neighbours together if it picks more
 * experts. So the number of its picks follows the text, and from layer to layer, as recorded.
 *
 * Experts keep their place in the order of loads. The loads of other numbers of experts lie on the
 * same curve. Each layer's experts are then shuffled.
 */
export function resample(recorded, { layers, topK, experts }, seed) {
  const { windows, length } = recorded
  const picks = new Picks({ windows, length, layers, topK, experts })
  for (let layer = 0; layer < layers; layer++) {
    const from = Math.floor((layer * recorded.layers) / layers)
    const random = randomFrom(seed * 1000 + layer)
    const draw = drawer(recorded.loads(from), experts, random)
    for (let window = 0; window < windows; window++)
      for (let position = 0; position < length; position++)
        fill(recorded, from, picks, layer, { window, position, draw })
  }
  return picks
}

/** One token's picks in one layer. */
function fill(recorded, from, picks, layer, { window, position, draw }) {
  const to = picks.at(window, position, layer)
  const taken = new Set()
  for (let k = 0; k < picks.topK; k++) {
    const neighbour = (position + Math.floor(k / recorded.topK)) % recorded.length
    const pick = recorded.data[recorded.at(window, neighbour, from) + (k % recorded.topK)]
    if (pick === NONE) continue
    picks.data[to + k] = draw(pick, taken)
  }
}

/** A function that draws one of `count` experts in the place of a recorded one. */
function drawer(loads, count, random) {
  const order = [...loads.keys()].sort((a, b) => loads[b] - loads[a])
  const sorted = order.map(expert => loads[expert])
  const source = shares(sorted)
  const target = shares(Array.from({ length: count }, (_, i) => between(sorted, i, count)))
  const names = shuffled(count, random)
  const rankOf = new Map(order.map((expert, rank) => [expert, rank]))
  return (pick, taken) => {
    const rank = rankOf.get(pick)
    const at = source[rank] + random() * (source[rank + 1] - source[rank])
    let place = Math.max(0, Math.min(count, firstAbove(target, at)) - 1)
    while (taken.has(place)) place = (place + 1) % count
    taken.add(place)
    return names[place]
  }
}

/** Sums of the numbers before each, and all, as shares of all. */
function shares(numbers) {
  const sums = [0]
  for (const number of numbers) sums.push(sums.at(-1) + number)
  const all = sums.at(-1) || 1
  return sums.map(sum => sum / all)
}

/** The place of the first that is above `value`. */
function firstAbove(ascending, value) {
  let low = 0
  let high = ascending.length
  while (low < high) {
    const middle = (low + high) >> 1
    if (ascending[middle] > value) high = middle
    else low = middle + 1
  }
  return low
}

/** Number i of `count` on the line through the numbers of a list, each amid its part of it. */
function between(list, i, count) {
  const at = Math.min(list.length - 1, Math.max(0, ((i + 0.5) * list.length) / count - 0.5))
  const low = Math.floor(at)
  const high = Math.min(list.length - 1, low + 1)
  return list[low] + (at - low) * (list[high] - list[low])
}

function shuffled(count, random) {
  const list = Array.from({ length: count }, (_, i) => i)
  for (let i = count - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1))
    ;[list[i], list[j]] = [list[j], list[i]]
  }
  return list
}
