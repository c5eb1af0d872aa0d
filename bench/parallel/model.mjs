// The model of a step of many ranks: counts of rows, bytes and messages, which are exact, and times
// by measured costs. Nothing here measures.
//
// Ranks are in lockstep. In each layer they wait for the slowest one twice: when rows go to the
// experts, and when results come back. So each part of a layer takes as long as at the rank where
// it takes longest. The mail is before all layers, and the head behind them.
import { NONE } from './picks.mjs'

/** A function through measured points [x, y], ascending in x: straight between them and behind. */
export class Curve {
  constructor(points) {
    this.points = points
  }

  at(x) {
    const { points } = this
    if (points.length === 1) return points[0][1]
    let i = 1
    while (i < points.length - 1 && points[i][0] < x) i++
    const [[x0, y0], [x1, y1]] = [points[i - 1], points[i]]
    return Math.max(0, y0 + ((y1 - y0) * (x - x0)) / (x1 - x0))
  }
}

// ---- bytes, as native/parallel/communicator.h and rows.cc have them

const FRAME = 32
const HEADER = 16
const ALIGNMENT = 16
/** The tokens of a step, without letters: lib/parallel/mail.ts. */
export const MAIL_BYTES = FRAME + 4

/** To one rank: its rows, and the expert of each pick. */
export function dispatchBytes(rows, picks, rowBytes) {
  const lists = HEADER + 2 * (rows + picks)
  return FRAME + Math.ceil(lists / ALIGNMENT) * ALIGNMENT + rows * rowBytes
}

/** From one rank: a row of f32 for each pick. */
export function collectBytes(picks, hidden) {
  return FRAME + picks * hidden * 4
}

// ---- one layer

/**
 * Rows and picks of a layer between ranks. `tokens[r]` are rank r's tokens, [window, position].
 * `rows` and `picks` are [from * W + to], the own ones included. `loads` are [rank * N + expert]:
 * the rows of each expert.
 */
export function countLayer(picks, layer, tokens, to) {
  const size = tokens.length
  const { data, topK, experts } = picks
  const rows = new Uint32Array(size * size)
  const sent = new Uint32Array(size * size)
  const loads = new Uint32Array(size * experts)
  for (let rank = 0; rank < size; rank++) {
    for (const [window, position] of tokens[rank]) {
      const from = picks.at(window, position, layer)
      const seen = new Set()
      for (let k = 0; k < topK; k++) {
        const expert = data[from + k]
        if (expert === NONE) continue
        const other = to[rank][expert]
        sent[rank * size + other]++
        loads[other * experts + expert]++
        if (seen.has(other)) continue
        seen.add(other)
        rows[rank * size + other]++
      }
    }
  }
  return { size, rows, picks: sent, loads, experts }
}

/** Works of ranks on so many cores: a core's ranks, every cores-th, work one after another. */
export function together(seconds, cores) {
  let most = 0
  for (let core = 0; core < Math.min(cores, seconds.length); core++) {
    let sum = 0
    for (let rank = core; rank < seconds.length; rank += cores) sum += seconds[rank]
    most = Math.max(most, sum)
  }
  return most
}

const numbers = (count, of) => Array.from({ length: count }, (_, i) => of(i))

/**
 * Seconds until every rank has its messages; `bytes(from, to)`. A rank works for each message. On a
 * network they take the latency, and the time of the bytes through its one link, besides.
 */
function exchangeSeconds(size, bytes, { message, network }) {
  const ranks = numbers(size, rank => {
    let [work, out, back] = [0, 0, 0]
    for (let other = 0; other < size; other++) {
      if (other === rank) continue
      const sent = bytes(rank, other)
      const came = bytes(other, rank)
      work += message.at((sent + came) / 2)
      out += sent
      back += came
    }
    return work + (network ? network.latency + Math.max(out, back) * network.perByte : 0)
  })
  return Math.max(...ranks)
}

/** Imbalance of the rows that ranks compute: the most by the mean. */
function imbalanceOf(rows) {
  const sum = rows.reduce((a, b) => a + b, 0)
  return sum === 0 ? 1 : (Math.max(...rows) * rows.length) / sum
}

/** Seconds and bytes of one layer. `costs.dense` is a Curve of a rank's tokens. */
function layerOf(picks, layer, tokens, to, costs) {
  const counted = countLayer(picks, layer, tokens, to)
  const { size, loads, experts } = counted
  const at = (list, from, other) => list[from * size + other]
  const rowsAt = numbers(size, rank => {
    let rows = 0
    for (let e = 0; e < experts; e++) rows += loads[rank * experts + e]
    return rows
  })
  const computed = numbers(size, rank => {
    let seconds = 0
    for (let e = 0; e < experts; e++) {
      const rows = loads[rank * experts + e]
      if (rows > 0) seconds += costs.expert.at(rows)
    }
    return seconds
  })
  const there = (from, other) =>
    dispatchBytes(at(counted.rows, from, other), at(counted.picks, from, other), costs.rowBytes)
  const back = (from, other) => collectBytes(at(counted.picks, other, from), costs.hidden)
  const own = numbers(size, rank => at(counted.picks, rank, rank))
  return {
    counted,
    imbalance: imbalanceOf(rowsAt),
    dense: together(
      tokens.map(({ length }) => (length > 0 ? costs.dense.at(length) : 0)),
      costs.slots,
    ),
    experts: together(computed, costs.slots),
    exchange:
      size === 1
        ? 0
        : exchangeSeconds(size, there, costs) +
          exchangeSeconds(size, back, costs) +
          Math.max(...own) * costs.localPick,
    bytes: numbers(size, rank => {
      let sum = 0
      for (let other = 0; other < size; other++)
        if (other !== rank) sum += there(rank, other) + back(rank, other)
      return sum
    }),
  }
}

// ---- steps

/**
 * Some steps of a group. `tokensOf(step)` are each rank's tokens.
 *
 * @param costs `dense`, `head`, `expert`, `message`: Curves of a rank's tokens in a layer, its
 *   tokens, an expert's rows, a message's bytes. `localPick`: seconds. `hidden`,
 *   `rowBytes`: of a row. `slots`: ranks that compute at the same time. `network`: `latency` in
 *   seconds and seconds `perByte`, or none: one machine
 * @returns seconds of a step and its parts, means over the steps. `total` has the counts of all
 *   steps and ranks
 */
export function simulate({ picks, to, steps, tokensOf, costs }) {
  const size = to[0].length
  const parts = { dense: 0, experts: 0, exchange: 0, head: 0, mail: 0 }
  const total = { bytes: 0, messages: 0, picks: 0, localPicks: 0, tokens: 0 }
  let imbalance = 0
  const { network } = costs
  const mail = (size - 1) * costs.message.at(MAIL_BYTES)
  for (let step = 0; step < steps; step++) {
    const tokens = tokensOf(step)
    for (let layer = 0; layer < picks.layers; layer++) {
      const one = layerOf(picks, layer, tokens, to[layer], costs)
      for (const name of ['dense', 'experts', 'exchange']) parts[name] += one[name]
      imbalance += one.imbalance
      total.bytes += one.bytes.reduce((a, b) => a + b, 0)
      for (let from = 0; from < size; from++) {
        for (let other = 0; other < size; other++)
          total.picks += one.counted.picks[from * size + other]
        total.localPicks += one.counted.picks[from * size + from]
      }
    }
    const heads = tokens.map(({ length }) => (length > 0 ? costs.head.at(length) : 0))
    parts.head += together(heads, costs.slots)
    parts.mail += size === 1 ? 0 : mail + (network?.latency ?? 0)
    total.tokens += tokens.reduce((sum, { length }) => sum + length, 0)
    total.bytes += size * (size - 1) * MAIL_BYTES
    total.messages += size * (size - 1) * (2 * picks.layers + 1)
  }
  for (const name of Object.keys(parts)) parts[name] /= steps
  const seconds = Object.values(parts).reduce((a, b) => a + b, 0)
  return {
    ranks: size,
    seconds,
    parts,
    imbalance: imbalance / (steps * picks.layers),
    tokensPerSecond: total.tokens / steps / seconds,
    localShare: total.picks === 0 ? 1 : total.localPicks / total.picks,
    bytesOfRank: total.bytes / steps / size,
    messagesOfRank: total.messages / steps / size,
    total,
  }
}
