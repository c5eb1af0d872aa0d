// Costs of the transport: rows that travel between ranks and come back, by the ops of a step.
import { loadBinding } from '../../dist/addon/binding.js'
import { ProgramBuilder } from '../../dist/program/builder.js'
import { collectTokens, dispatchTokens } from '../../dist/program/moe-ops.js'
import { gatherRows } from '../../dist/program/ops.js'
import { collectBytes, dispatchBytes } from './model.mjs'
import { inTurns, quantile } from './timing.mjs'

/** Rows to each other rank, and rows that stay. */
const SENT_ROWS = [0, 1, 4, 16, 64, 256]
const LOCAL_ROWS = 64
/** Pairs of ops in a program: the difference leaves out all that is once in a step. */
const PAIRS = [1, 17]

/** So many dispatches and collects of rows whose experts are given; one expert at each rank. */
function exchangesAlone(group, hidden, pairs) {
  const p = new ProgramBuilder()
  const x = p.input('x', 'f32', ['T', hidden])
  const none = p.input('none', 'i32', ['R'])
  const results = p.input('results', 'f32', ['P', 1, hidden])
  const route = {
    expertIndices: p.input('indices', 'i32', ['T', 1]),
    expertRows: p.input('rows', 'i32', ['T', 1]),
  }
  const destinations = Array.from({ length: group.size }, (_, rank) => rank)
  const on = { ranks: group.size, destinations, held: [group.rank] }
  const experts = [{ kind: 'ffn', count: group.size }]
  const collected = Array.from({ length: pairs }, (_, i) => {
    const dispatched = dispatchTokens(p, `pair${i}`, { x, route, experts, on })
    // A reader that reads none. Without one that wants f32 they would travel as bf16.
    gatherRows(p, `pair${i}.read`, { x: dispatched.rows, rows: none })
    return collectTokens(p, `pair${i}`, { expertOut: results, dispatched, route })
  })
  return p.finish(collected.slice(-1))
}

/** A step of every rank: so many rows to each other rank, or `local` ones that stay. */
function stepOf({ rank, size }, hidden, sent, local) {
  const others = Array.from({ length: size }, (_, other) => other).filter(other => other !== rank)
  const to = [...others.flatMap(other => Array(sent).fill(other)), ...Array(local).fill(rank)]
  const T = to.length
  const P = T * size
  return {
    sizes: { T, R: 0, B: T > 0 ? 1 : 0, M: 0, P },
    inputs: {
      x: new Float32Array(T * hidden).fill(1),
      results: new Float32Array(P * hidden).fill(1),
      none: new Int32Array(),
      indices: Int32Array.from(to),
      rows: Int32Array.from(to, (_, row) => row),
    },
  }
}

/**
 * `message`: [bytes, seconds] of one message with its part of the exchange. `localPick`: seconds of
 * a row that stays.
 */
export async function measureExchange({ hidden, turns, quantile: q }, group) {
  const device = new (loadBinding().Device)('cpu', { threads: 1 })
  const compile = pairs => device.compile(exchangesAlone(group, hidden, pairs), undefined, group)
  const programs = [await compile(PAIRS[0]), await compile(PAIRS[1])]
  const pairSeconds = async (sent, local) => {
    const step = stepOf(group, hidden, sent, local)
    const works = programs.map(program => () => program.run(step))
    const [few, many] = (await inTurns(works, turns)).map(times => quantile(times, q))
    return Math.max(0, many - few) / (PAIRS[1] - PAIRS[0])
  }
  const others = group.size - 1
  const message = []
  for (const rows of SENT_ROWS) {
    const bytes = (dispatchBytes(rows, rows, 4 * hidden) + collectBytes(rows, hidden)) / 2
    message.push([bytes, (await pairSeconds(rows, 0)) / 2 / others])
  }
  const none = 2 * others * message[0][1]
  const localPick = Math.max(0, (await pairSeconds(0, LOCAL_ROWS)) - none) / LOCAL_ROWS
  for (const program of programs) await program.close()
  device.close()
  return { message, localPick }
}
