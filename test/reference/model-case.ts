/** A model case of the golden data, and the comparison of results with it. */
import { join } from 'node:path'
import type { Test } from 'tap'
import {
  difference,
  type Family,
  type GoldenTensors,
  goldenCase,
  readGolden,
  readJson,
  sortedPicks,
  type Tolerance,
  type Values,
} from '../support/golden.js'

/**
 * In this case the reference's rotary base counts padding columns, which a ragged batch does not
 * have.
 */
const LONGEST_ROW_ONLY = new Set(['moepp/rope-dynamic-long'])

/** Greedy tokens of a case. */
export const STEPS = 24

/** The parts of a forward result that are compared. */
export interface Forwarded {
  readonly logits: ArrayLike<number>
  readonly captured: Readonly<Record<string, ArrayLike<number>>>
}

/** The parts of a continuation that are compared. */
export interface Continued {
  readonly tokenIds: readonly number[]
  readonly routing: {
    readonly layers: readonly {
      readonly expertIndices: ArrayLike<number>
      readonly expertWeights: ArrayLike<number>
    }[]
  }
}

export interface Row {
  readonly b: number
  /** Columns of padding before the prompt. */
  readonly start: number
  readonly prompt: readonly number[]
  readonly greedy: readonly number[]
}

export interface Case {
  readonly tolerance: Readonly<Record<string, Tolerance>>
  readonly data: GoldenTensors
  readonly rows: readonly Row[]
  /** The layers that have experts. */
  readonly moeLayers: readonly number[]
  readonly layers: number
  readonly topK: number
  /** The positions from which on a step rotates unlike a pass over all tokens at once. */
  readonly ownBases: number
}

/**
 * Row b, real positions only, of a [.., B, T, ...] tensor whose axes before B are indexed by
 * `lead`.
 */
function realPart(values: Values, lead: readonly number[], b: number, start: number) {
  const axis = lead.length
  const [B, T] = [values.shape[axis]!, values.shape[axis + 1]!]
  const width = values.shape.slice(axis + 2).reduce((a, c) => a * c, 1)
  const outer = lead.reduce((index, at, i) => index * values.shape[i]! + at, 0)
  const first = ((outer * B + b) * T + start) * width
  return values.data.subarray(first, ((outer * B + b) * T + T) * width)
}

/** Tolerances are `share` times those of the data. */
export function openCase(family: Family, name: string, share = 1): Case {
  const directory = goldenCase(name, family)
  const { batch, tolerance } = readJson<{
    batch: { padded_length: number; lengths: readonly number[] }
    tolerance: Record<string, Tolerance>
  }>(join(directory, 'case.json'))
  const config = readJson<{
    max_position_embeddings?: number
    rope_scaling?: { type?: string; rope_type?: string } | null
  }>(join(directory, 'config.json'))
  const data = readGolden(join(directory, 'expected.safetensors'))
  const T = batch.padded_length
  const wanted = batch.lengths.map((length, b) => ({ b, start: T - length }))
  const layers = data.values('hidden_states').shape[0]! - 1
  const scaling = config.rope_scaling?.rope_type ?? config.rope_scaling?.type
  return {
    tolerance: Object.fromEntries(
      Object.entries(tolerance).map(([key, { atol, rtol }]) => [
        key,
        { atol: share * atol, rtol: share * rtol },
      ]),
    ),
    data,
    rows: wanted
      .filter(({ start }) => start === 0 || !LONGEST_ROW_ONLY.has(`${family}/${name}`))
      .map(({ b, start }) => ({
        b,
        start,
        prompt: Array.from(realPart(data.values('input_ids'), [], b, start)),
        greedy: Array.from(realPart(data.values('greedy_ids'), [], b, 0)),
      })),
    layers,
    moeLayers: data.has('moe_layers')
      ? Array.from(data.values('moe_layers').data)
      : Array.from({ length: layers }, (_, layer) => layer),
    topK: data.values('topk_indices').shape.at(-1)!,
    ownBases: scaling === 'dynamic' ? config.max_position_embeddings! : Number.POSITIVE_INFINITY,
  }
}

/** The picks of each token as a set with their weights. */
function comparePicks(
  t: Test,
  { tolerance, topK }: Case,
  what: string,
  got: { indices: ArrayLike<number>; weights: ArrayLike<number> },
  want: { indices: ArrayLike<number>; weights: ArrayLike<number> },
): void {
  const a = sortedPicks(got.indices, got.weights, topK)
  const b = sortedPicks(want.indices, want.weights, topK)
  t.same(a.experts, b.experts, `${what}: experts`)
  t.equal(difference(a.weights, b.weights, tolerance.topk_weights!), '', `${what}: weights`)
}

export function compareForward(t: Test, c: Case, { b, start }: Row, result: Forwarded): void {
  const { data, tolerance } = c
  const { logits, captured } = result
  const wanted = (key: string, lead: number[]) => realPart(data.values(key), lead, b, start)
  const same = (key: string, got: ArrayLike<number>, lead: number[]) => {
    // Masked experts have no logit to compare.
    const want = wanted(key, lead).map((value, i) => (value === -Infinity ? got[i]! : value))
    t.equal(difference(got, want, tolerance[key]!), '', `row ${b} ${key} ${lead}`)
  }
  same('logits', logits, [])
  same('final_hidden', captured.final_hidden!, [])
  for (let l = 0; l <= c.layers; l++) same('hidden_states', captured[`hidden_states.${l}`]!, [l])
  for (const [m, layer] of c.moeLayers.entries()) {
    const of = (name: string) => captured[`layers.${layer}.${name}`]!
    // The data's has the shared expert's in it.
    const shared = captured[`layers.${layer}.shared_expert_output`]
    const output = Array.from(of('moe_output'), (value, i) => value + (shared?.[i] ?? 0))
    same('moe_output', output, [m])
    same('router_logits', of('router_logits'), [m])
    comparePicks(
      t,
      c,
      `row ${b} layer ${layer}`,
      { indices: of('expert_indices'), weights: of('expert_weights') },
      { indices: wanted('topk_indices', [m]), weights: wanted('topk_weights', [m]) },
    )
  }
  const routed = Object.keys(captured).filter(name => name.endsWith('.router_logits'))
  t.equal(routed.length, c.moeLayers.length, 'layers without experts have no router')
}

/** Tokens and routing of a greedy continuation, its prompt's included. */
export function compareGreedy(t: Test, c: Case, row: Row, result: Continued, how: string): void {
  t.same(result.tokenIds, row.greedy, `row ${row.b}, ${how}: greedy continuation`)
  const layers = result.routing.layers.filter(layer => layer.expertIndices.length > 0)
  t.equal(layers.length, c.moeLayers.length)
  for (const [m, { expertIndices, expertWeights }] of layers.entries()) {
    const joined = (key: string) => [
      ...realPart(c.data.values(`topk_${key}`), [m], row.b, row.start),
      ...realPart(c.data.values(`greedy_topk_${key}`), [m], row.b, 0),
    ]
    comparePicks(
      t,
      c,
      `row ${row.b}, ${how}: routing of layer ${c.moeLayers[m]}`,
      { indices: expertIndices, weights: expertWeights },
      { indices: joined('indices'), weights: joined('weights') },
    )
  }
}

/** The logits of the steps whose logits the data keeps. */
export function compareStepLogits(
  t: Test,
  c: Case,
  row: Row,
  atStep: (step: number) => ArrayLike<number>,
): void {
  const kept = c.data.values('greedy_logits')
  const [, B, V] = kept.shape as [number, number, number]
  for (const [k, step] of c.data.values('greedy_logits_steps').data.entries()) {
    const from = (k * B + row.b) * V
    const off = difference(
      atStep(step),
      kept.data.subarray(from, from + V),
      c.tolerance.greedy_logits!,
    )
    t.equal(off, '', `row ${row.b}: logits of step ${step}`)
  }
}
