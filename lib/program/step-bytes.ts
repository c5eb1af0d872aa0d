/** The memory that a step of a recorded program works in. */
import type { Dimension, OpSpec, ProgramSpec, Sizes } from '../addon/binding.js'

/** native/program/program.cc, kAlignment. */
const ALIGNMENT = 64

interface Placed {
  readonly begin: number
  readonly end: number
  readonly lastUse: number
}

/**
 * Bytes of the buffers of a step of these sizes. They share memory as in plan_memory of
 * native/program/program.cc. Each lies in the first gap that is large enough, from the op that
 * writes it to its last reader. Buffers that no later op reads are results or are not made. All are
 * counted in f32 or i32. A GPU's step may hold some as bf16, and takes less then.
 */
export function stepBytes({ buffers, ops, inputs }: ProgramSpec, sizes: Sizes): number {
  const own = buffers.filter(({ name }) => !inputs.includes(name))
  const bytes = new Map(own.map(({ name, shape }) => [name, bytesOf(shape, sizes)]))
  const lastUse = new Map<string, number>()
  const written = fused(ops).map((tensors, at) => {
    const named = [...new Set(tensors)].filter(name => bytes.has(name))
    const fresh = named.filter(name => !lastUse.has(name))
    for (const name of named) lastUse.set(name, at)
    return fresh
  })
  let live: Placed[] = []
  let most = 0
  for (const [at, names] of written.entries()) {
    live = live.filter(placed => placed.lastUse >= at)
    for (const name of names.filter(name => lastUse.get(name)! > at)) {
      const placed = firstGap(live, bytes.get(name)!, lastUse.get(name)!)
      live.push(placed)
      live.sort((a, b) => a.begin - b.begin)
      most = Math.max(most, placed.end)
    }
  }
  return most
}

/**
 * The tensors of each op that runs. An RMSNorm, a one-layer router and its gating are one op:
 * is_norm_route of native/program/compiler.cc.
 */
function fused(ops: readonly OpSpec[]): string[][] {
  const all: string[][] = []
  for (let at = 0; at < ops.length; at++) {
    const [norm, router, route] = ops.slice(at, at + 3)
    const isFused =
      norm!.op === 'rms_norm' &&
      router?.op === 'router_logits' &&
      route?.op === 'route_top_k' &&
      router.tensors.hidden === undefined &&
      router.tensors.x === norm!.tensors.out &&
      route.tensors.logits === router.tensors.logits
    const together = isFused ? [norm!, router, route] : [norm!]
    all.push(together.flatMap(({ tensors }) => Object.values(tensors)))
    at += together.length - 1
  }
  return all
}

function firstGap(live: readonly Placed[], bytes: number, lastUse: number): Placed {
  let begin = 0
  for (const placed of live) {
    if (placed.begin - begin >= bytes) break
    begin = placed.end
  }
  return { begin, end: begin + bytes, lastUse }
}

/** All elements take 4 bytes. */
function bytesOf(shape: readonly Dimension[], sizes: Sizes): number {
  const size = (dimension: Dimension) => {
    if (typeof dimension === 'number') return dimension
    return dimension === 'B+1' ? sizes.B + 1 : sizes[dimension]
  }
  const bytes = shape.reduce<number>((product, dimension) => product * size(dimension), 4)
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT
}
