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
 * counted in f32 or i32. Rows of tables in files are there for the whole step. A GPU's step may
 * hold some as bf16, and takes less then.
 */
export function stepBytes(
  { buffers, ops, inputs, lookups }: ProgramSpec,
  sizes: Sizes,
  fusesRotation = false,
): number {
  const lookedUp = new Set(lookups.map(({ out }) => out))
  const tables = buffers.filter(({ name }) => lookedUp.has(name))
  const own = buffers.filter(({ name }) => !inputs.includes(name) && !lookedUp.has(name))
  const bytes = new Map(own.map(({ name, shape }) => [name, bytesOf(shape, sizes)]))
  const lastUse = new Map<string, number>()
  const read = new Set<string>()
  const written = fused(ops, fusesRotation).map((parts, at) => {
    const fresh: string[] = []
    for (const name of parts.flatMap(({ tensors }) => [...new Set(Object.values(tensors))])) {
      if (!bytes.has(name)) continue
      if (lastUse.has(name)) read.add(name)
      else fresh.push(name)
      lastUse.set(name, at)
    }
    return fresh
  })
  let live: Placed[] = []
  let most = 0
  const lookedUpBytes = tables.reduce((sum, { shape }) => sum + bytesOf(shape, sizes), 0)
  for (const [at, names] of written.entries()) {
    live = live.filter(placed => placed.lastUse >= at)
    for (const name of names.filter(name => read.has(name))) {
      const placed = firstGap(live, bytes.get(name)!, lastUse.get(name)!)
      live.push(placed)
      live.sort((a, b) => a.begin - b.begin)
      most = Math.max(most, placed.end)
    }
  }
  return lookedUpBytes + most
}

/**
 * The ops that run, each as its parts: see add_at of native/program/compiler.cc. Other fused ops
 * keep the lifetimes of their parts.
 */
function fused(ops: readonly OpSpec[], fusesRotation: boolean): OpSpec[][] {
  const all: OpSpec[][] = []
  for (let at = 0; at < ops.length; at += all.at(-1)!.length) {
    const [first, second, third] = ops.slice(at, at + 3)
    const isRouting =
      first!.op === 'rms_norm' &&
      second?.op === 'router_logits' &&
      third?.op === 'route_top_k' &&
      second.tensors.hidden === undefined &&
      second.tensors.x === first!.tensors.out &&
      third.tensors.logits === second.tensors.logits
    const isRotation =
      fusesRotation &&
      first!.op === 'linear' &&
      second?.op === 'rope_store' &&
      second.tensors.qkv === first!.tensors.out
    all.push(ops.slice(at, at + (isRouting ? 3 : isRotation ? 2 : 1)))
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
    if (dimension === 'P') return sizes.P ?? sizes.T
    return dimension === 'B+1' ? sizes.B + 1 : sizes[dimension]
  }
  const bytes = shape.reduce<number>((product, dimension) => product * size(dimension), 4)
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT
}
