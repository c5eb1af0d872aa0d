/**
 * Every model case of the golden data through the public interface, on every instruction set. It
 * compares logits, hidden states, routing and the greedy continuation, alone and as a ragged batch.
 * Only real positions are compared: a batch here has no padding.
 */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { loadModel } from '../../lib/index.js'
import type { Isa } from '../../lib/options/generate.js'
import {
  difference,
  golden,
  readGolden,
  readJson,
  sortedPicks,
  type Tolerance,
  type Values,
} from '../support/golden.js'
import { devices } from '../support/one-program.js'

interface ModelCase {
  readonly batch: {
    readonly rows: number
    readonly padded_length: number
    readonly lengths: readonly number[]
  }
  readonly tolerance: Readonly<Record<string, Tolerance>>
}

/**
 * As in test/support/one-program.ts. A GPU rounds activations to bf16 where the weights are; the
 * golden data is f32 compute.
 */
const onGpu = process.env.MOEPP_TEST_DEVICE !== undefined
const load = (directory: string, device: string) =>
  loadModel(directory, onGpu ? { device: 'cuda:0', dtype: 'float32' } : { isa: device as Isa })

const folder = join(golden, 'cases')
const names = readdirSync(folder)

/**
 * In this case the reference's rotary base counts padding columns, which a ragged batch does not
 * have.
 */
const LONGEST_ROW_ONLY = new Set(['rope-dynamic-long'])

/**
 * Row b, real positions only, of a [.., B, T, ...] tensor whose axes before B are indexed by
 * `lead`.
 */
function realPart(
  values: Values,
  lead: readonly number[],
  b: number,
  start: number,
): ArrayLike<number> {
  const axis = lead.length
  const [B, T] = [values.shape[axis]!, values.shape[axis + 1]!]
  const width = values.shape.slice(axis + 2).reduce((a, c) => a * c, 1)
  const outer = lead.reduce((index, at, i) => index * values.shape[i]! + at, 0)
  const first = ((outer * B + b) * T + start) * width
  return values.data.subarray(first, ((outer * B + b) * T + T) * width)
}

for (const [name, device] of names.flatMap(name =>
  devices().map(device => [name, device] as const),
)) {
  t.test(`${name} on ${device}`, async t => {
    const { batch, tolerance } = readJson<ModelCase>(join(folder, name, 'case.json'))
    const data = await readGolden(join(folder, name, 'expected.safetensors'))
    const ids = data.values('input_ids')
    const T = batch.padded_length
    const rows = batch.lengths
      .map((length, b) => ({ b, length, start: T - length }))
      .filter(row => row.length === T || !LONGEST_ROW_ONLY.has(name))
    const prompts = rows.map(row => Array.from(realPart(ids, [], row.b, row.start)))
    await using model = await load(join(folder, name), device)
    const layers = data.values('moe_output').shape[0]!
    const capture = ['layers.*.*', 'hidden_states.*', 'final_hidden']

    const results = await model.forward(prompts, { capture })
    t.equal(results.length, prompts.length)
    for (const [r, { logits, captured }] of results.entries()) {
      const { b, start } = rows[r]!
      const same = (what: string, got: ArrayLike<number>, lead: number[], key = what) =>
        t.equal(
          difference(got, realPart(data.values(key), lead, b, start), tolerance[key]!),
          '',
          `row ${b} ${what} ${lead}`,
        )
      same('logits', logits, [])
      same('final_hidden', captured.final_hidden!, [])
      for (let l = 0; l <= layers; l++) same('hidden_states', captured[`hidden_states.${l}`]!, [l])
      for (let l = 0; l < layers; l++) {
        same('moe_output', captured[`layers.${l}.moe_output`]!, [l])
        same('router_logits', captured[`layers.${l}.router_logits`]!, [l])
        const got = sortedPicks(
          captured[`layers.${l}.expert_indices`]!,
          captured[`layers.${l}.expert_weights`]!,
        )
        const want = sortedPicks(
          realPart(data.values('topk_indices'), [l], b, start),
          realPart(data.values('topk_weights'), [l], b, start),
        )
        t.same(got.ids, want.ids, `row ${b} experts of layer ${l}`)
        t.equal(
          difference(got.shares, want.shares, tolerance.topk_weights!),
          '',
          `row ${b} weights of layer ${l}`,
        )
      }
      const alone = await model.forward(prompts[r]!, {})
      // A GPU has other kernels for a few tokens than for many.
      if (onGpu) t.equal(difference(alone.logits, logits, tolerance.logits!), '', `row ${b} alone`)
      else t.same(alone.logits, logits, `row ${b} alone is bitwise the batch's`)
    }

    const greedy = data.values('greedy_ids')
    const options = { maxNewTokens: 24, ignoreEos: true, temperature: 0 }
    const wanted = rows.map(row => Array.from(greedy.data.subarray(row.b * 24, row.b * 24 + 24)))
    const together = await model.generate(prompts, options)
    t.same(
      together.map(result => result.tokenIds),
      wanted,
      'greedy continuation of the batch',
    )
    for (const [r, prompt] of prompts.entries()) {
      t.same(
        (await model.generate(prompt, options)).tokenIds,
        wanted[r],
        `greedy continuation of row ${rows[r]!.b}`,
      )
    }
  })
}
