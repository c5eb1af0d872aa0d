/** A recorded layer's routing, whose "experts" are inputs: rows go to ranks and come back. */
import { createHash } from 'node:crypto'
import { loadBinding, type NativeGroup, type ProgramSpec } from '../../lib/addon/binding.js'
import { ProgramBuilder } from '../../lib/program/builder.js'
import { collectTokens, dispatchTokens, routeTopK } from '../../lib/program/moe-ops.js'

const FFN = 7
const ZERO = 3
const TOP_K = 3
const HIDDEN = 20

/** Of rank `rank` of `size`; expert n is at rank floor(n * size / FFN). */
function routedProgram(rank: number, size: number): ProgramSpec {
  const p = new ProgramBuilder()
  const x = p.input('x', 'f32', ['T', HIDDEN])
  const logits = p.input('logits', 'f32', ['T', FFN + ZERO])
  const experts = [
    { kind: 'zero', count: ZERO },
    { kind: 'ffn', count: FFN },
  ] as const
  const route = routeTopK(p, 'layer', { logits, topK: TOP_K, experts, normalise: true })
  const destinations = Array.from({ length: FFN }, (_, n) => Math.floor((n * size) / FFN))
  const held = destinations.flatMap((at, n) => (at === rank ? [n] : []))
  const on = { ranks: size, destinations, held }
  const dispatched = dispatchTokens(p, 'layer', { x, route, experts, on })
  const expertOut = p.input('results', 'f32', ['P', TOP_K, HIDDEN])
  const collected = collectTokens(p, 'layer', { expertOut, dispatched, route })
  return p.finish([collected, dispatched.rows, dispatched.route.tokenOrder])
}

/** Of `all` tokens those of one rank: rank r has each token t with t % size == r. */
function routedStep(rank: number, size: number, all: number) {
  const tokens = Array.from({ length: all }, (_, t) => t).filter(t => t % size === rank)
  const T = tokens.length
  const noise = (i: number) => Math.fround((Math.sin(i * 12.9898) * 43758.5453) % 1)
  const of = (width: number, seed: number) =>
    Float32Array.from({ length: T * width }, (_, i) =>
      noise(seed + tokens[Math.floor(i / width)]! * width + (i % width)),
    )
  return {
    sizes: { T, R: 0, B: T > 0 ? 1 : 0, M: 0, P: all },
    inputs: {
      x: of(HIDDEN, 1),
      logits: of(FFN + ZERO, 1e4),
      // Rows by their place: what comes back tells where a pick was sorted to.
      results: Float32Array.from(
        { length: all * TOP_K * HIDDEN },
        (_, i) => 1e4 * rank + Math.floor(i / HIDDEN),
      ),
    },
  }
}

/** A hash of what some steps bring back to a rank. */
export async function runRoutedSteps(group: NativeGroup): Promise<string> {
  const device = new (loadBinding().Device)('cpu', { threads: 1 })
  const program = await device.compile(routedProgram(group.rank, group.size), undefined, group)
  const hash = createHash('sha256')
  for (const all of [1, 7, 64]) {
    const results = await program.run(routedStep(group.rank, group.size, all))
    hash.update(new Uint8Array(results['layer.collect.out']!.buffer))
  }
  await program.close()
  return hash.digest('hex')
}
