/**
 * Model cases of the golden data through the public interface, on every instruction set. It
 * compares logits, hidden states, routing and the greedy continuation: alone, as a ragged batch,
 * from the prefix cache and in one pass. Only real positions are compared: a batch here has no
 * padding.
 */
import t, { type Test } from 'tap'
import { type GenerateResult, loadModel, type Model } from '../../lib/index.js'
import type { Isa } from '../../lib/options/generate.js'
import { devices } from '../support/devices.js'
import { caseNames, difference, type Family, goldenCase } from '../support/golden.js'
import { logprob } from './decoder-f64.js'
import {
  type Case,
  compareForward,
  compareGreedy,
  compareStepLogits,
  openCase,
  type Row,
  STEPS,
} from './model-case.js'

/** A GPU rounds activations to bf16 where the weights are; the golden data is f32 compute. */
const onGpu = process.env.MOEPP_TEST_DEVICE !== undefined
/**
 * Steps take long under emulation: a few cases run there, and each text is decoded once, in a
 * batch. Between them they have every part that a program is made of. The others differ in numbers
 * that are known before the device, or in cases of an op's own test.
 */
const isEmulated = onGpu && process.env.MOEPP_TEST_GPU !== '1'
const EMULATED = [
  'moepp/two-layer-gate', // also left padding
  'moepp/mixtral-nonorm', // also no norm of logits, doubled inputs
  'moepp/rope-dynamic-crossing', // another base in the middle of the text
  'moepp/odd-sizes',
  'qwen3_moe/dense-mixed',
  'qwen3_moe/sliding-window',
  'qwen3_moe_plus_plus/constant', // zero, copy and constant experts
  'qwen3_moe_plus_plus/masked',
  'qwen3_moe_plus_plus/dense-tied', // also biases, yarn
  'mixtral/real8x7b-bf16',
  'glm4_moe_lite_plus_plus/constant-dense-last',
  'longcat_flash/strong-bias', // odd sizes, two attentions in a layer
]
const load = (directory: string, device: string) =>
  loadModel(directory, onGpu ? { device: 'cuda:0', dtype: 'float32' } : { isa: device as Isa })

const GREEDY = { maxNewTokens: STEPS, ignoreEos: true, temperature: 0, routing: true, logprobs: 1 }

/** A continuation whose routing was asked for. */
const routed = (result: GenerateResult) => ({ ...result, routing: result.routing! })

/** The steps of a cached continuation against one pass over all of its tokens. */
async function compareOnePass(t: Test, c: Case, row: Row, model: Model, result: GenerateResult) {
  const tokens = [...row.prompt, ...row.greedy.slice(0, -1)]
  if (tokens.length > c.ownBases) return
  const { logits } = await model.forward(tokens)
  const width = logits.length / tokens.length
  const atStep = (step: number) => {
    const position = row.prompt.length - 1 + step
    return logits.subarray(position * width, (position + 1) * width)
  }
  const tolerance = c.tolerance.greedy_logits!
  compareStepLogits(t, c, row, atStep)
  for (const [step, got] of result.logprobs!.entries()) {
    const want = logprob(atStep(step), got.tokenId)
    t.equal(difference([got.logprob], [want], tolerance), '', `log-probability of step ${step}`)
  }
}

async function checkCase(t: Test, family: Family, name: string, device: string): Promise<void> {
  const c = openCase(family, name)
  await using model = await load(goldenCase(name, family), device)
  const prompts = c.rows.map(row => row.prompt)
  const capture = ['layers.*.*', 'hidden_states.*', 'final_hidden']
  const results = await model.forward(prompts, { capture })
  t.equal(results.length, prompts.length)
  for (const [r, result] of results.entries()) {
    compareForward(t, c, c.rows[r]!, result)
    const alone = (await model.forward(prompts[r]!)).logits
    // A GPU has other kernels for a few tokens than for many.
    if (onGpu) t.equal(difference(alone, result.logits, c.tolerance.logits!), '', `${r} alone`)
    else t.same(alone, result.logits, `row ${c.rows[r]!.b} alone is bitwise the batch's`)
  }
  const together = await model.generate(prompts, GREEDY)
  for (const [r, row] of c.rows.entries()) {
    compareGreedy(t, c, row, routed(together[r]!), 'in a batch')
    if (isEmulated) continue
    const alone = await model.generate(row.prompt, GREEDY)
    compareGreedy(t, c, row, routed(alone), 'alone')
    await compareOnePass(t, c, row, model, alone)
    // The routing of cached tokens is not known, so an answer that wants none uses the cache.
    const { routing: _, ...plain } = GREEDY
    const again = await model.generate(row.prompt, plain)
    t.same(again.tokenIds, row.greedy, `row ${row.b}: greedy continuation from the prefix cache`)
    const cacheable = row.prompt.length + STEPS <= c.ownBases
    if (cacheable) t.equal(again.usage.cachedTokens, row.prompt.length - 1)
  }
}

/** Tests of every case of these families, on each device. */
export function checkFamilies(families: readonly Family[]): void {
  for (const family of families) {
    for (const name of caseNames(family)) {
      if (isEmulated && !EMULATED.includes(`${family}/${name}`)) continue
      for (const device of devices())
        t.test(`${family}/${name} on ${device}`, t => checkCase(t, family, name, device))
    }
  }
}
