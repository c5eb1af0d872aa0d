// Costs of a rank's own work, while the other ranks of this machine do the same.
import { loadBinding } from '../../dist/addon/binding.js'
import { Sequences } from '../../dist/benchmark/sequences.js'
import { expertCount } from '../../dist/program/moe-ops.js'
import { Curve } from './model.mjs'
import { inTurns, quantile, repeatsOf } from './timing.mjs'

/** Rows of all experts together when one expert's rows are many. */
const MOST_ROWS = 512

/** The experts' products of all layers, over rows that come as inputs. */
export function expertsAlone(spec) {
  const products = spec.ops.filter(({ op }) => op === 'grouped_gemm')
  const ops = products.map(op => {
    const { token_order, ...tensors } = op.tensors
    const inputs = token_order === undefined ? {} : { x: 'x', token_order: 'order' }
    return { ...op, tensors: { ...tensors, expert_offsets: 'offsets', ...inputs } }
  })
  const used = new Set(ops.flatMap(({ tensors }) => Object.values(tensors)))
  const buffers = spec.buffers.filter(({ name }) => used.has(name) && name !== 'x')
  const [{ tensors }] = products
  const shapeOf = name => spec.buffers.find(buffer => buffer.name === name).shape
  return {
    ...spec,
    ops,
    weights: spec.weights.filter(({ name }) => used.has(name)),
    buffers: [
      { name: 'x', dtype: 'f32', shape: shapeOf(tensors.x) },
      { name: 'offsets', dtype: 'i32', shape: shapeOf(tensors.expert_offsets) },
      { name: 'order', dtype: 'i32', shape: shapeOf(tensors.token_order) },
      ...buffers,
    ],
    lookups: [],
    inputs: ['x', 'offsets', 'order'],
    outputs: [],
  }
}

/** [rows, seconds] of one FFN expert: of as many experts as there are, each with so many rows. */
async function measureExperts({ runner, spec, config }, job, barrier) {
  const { expertRows, turns, quantile: q } = job
  const { device } = runner.info()
  const { Device } = loadBinding()
  const own = new Device('cpu', { threads: device.threads, isa: device.isa })
  const alone = expertsAlone(spec)
  const program = await own.compile(alone)
  const { topK, experts } = runner.routers[0]
  const N = expertCount(experts, 'ffn')
  const points = []
  for (const rows of expertRows) {
    const active = Math.max(1, Math.min(N, Math.floor(MOST_ROWS / rows)))
    const T = Math.ceil((active * rows) / topK)
    const x = Float32Array.from({ length: T * config.hiddenSize }, (_, i) => Math.sin(i + 1))
    const order = Int32Array.from({ length: T * topK }, (_, i) => i)
    const work = each => {
      const offsets = Int32Array.from({ length: N + 1 }, (_, e) => Math.min(e, active) * each)
      return () => program.run({ sizes: { T, R: 0, B: 1, M: 0 }, inputs: { x, offsets, order } })
    }
    const works = [work(rows), work(0)]
    const repeats = await repeatsOf(works[0])
    const found = await inTurns(works, turns, barrier, repeats)
    const [all, none] = found.map(times => quantile(times, q))
    points.push([rows, Math.max(0, all - none) / active / runner.routers.length])
  }
  await program.close()
  own.close()
  return points
}

/** A runner whose steps compute no logits unless told so, and tell the rows of each expert. */
class Probe {
  constructor(runner) {
    this.runner = runner
    this.hasLogits = true
    this.captures = false
    for (const name of ['vocabSize', 'pageSize', 'routers', 'maxStepTokens'])
      this[name] = runner[name]
  }

  keyVariant(length) {
    return this.runner.keyVariant(length)
  }

  async run(step) {
    const { routers } = this.runner
    const capture = this.captures ? routers.map(({ indices }) => indices) : []
    const logitRows = this.hasLogits ? step.logitRows : new Int32Array()
    const result = await this.runner.run({ ...step, logitRows, capture })
    if (this.captures) this.picks = routers.map(({ indices }) => result.captured[indices])
    return result
  }
}

/** Seconds of the experts' products of the last step. */
function expertSeconds({ picks, routers }, curve) {
  let seconds = 0
  for (const [i, { experts }] of routers.entries()) {
    const kinds = experts.flatMap(({ kind, count }) => Array(count).fill(kind))
    const loads = new Map()
    for (const pick of picks[i])
      if (kinds[pick] === 'ffn') loads.set(pick, (loads.get(pick) ?? 0) + 1)
    for (const rows of loads.values()) seconds += curve.at(rows)
  }
  return seconds
}

/**
 * Of steps with so many tokens: [tokens, seconds of a layer without its FFN experts, seconds of all
 * that is once in a step]. The experts' part is subtracted, by their own measured costs.
 */
async function measureSteps(probe, counts, stepOf, { turns, q, curve, barrier }) {
  const points = []
  for (const tokens of counts) {
    const step = stepOf(tokens)
    probe.captures = true
    await step()
    probe.captures = false
    const experts = expertSeconds(probe, curve)
    const work = hasLogits => () => {
      probe.hasLogits = hasLogits
      return step()
    }
    const works = [work(true), work(false)]
    const repeats = await repeatsOf(works[0])
    const found = await inTurns(works, turns, barrier, repeats)
    const [whole, inner] = found.map(times => quantile(times, q))
    probe.hasLogits = true
    const layers = probe.routers.length
    points.push([tokens, Math.max(0, inner - experts) / layers, Math.max(0, whole - inner)])
  }
  return points
}

/** @param job `windows`: texts of token ids, one for each sequence */
export async function measureCompute(parts, job, group) {
  const { runner, config, spec } = parts
  const { windows, prompt, length, sequences, decodeCounts, turns } = job
  const barrier = () => group.exchange(Array(group.size).fill(new Uint8Array()))
  const expert = await measureExperts(parts, job, barrier)
  const probe = new Probe(runner)
  const tokenOf = (sequence, position) => windows[sequence % windows.length][position]
  const texts = new Sequences(probe, Array(sequences).fill(length), tokenOf)
  await texts.fill(sequences, prompt)
  const how = { turns, q: job.quantile, curve: new Curve(expert), barrier }
  const decode = await measureSteps(probe, decodeCounts, n => () => texts.decode(n, prompt, 1), how)
  probe.maxStepTokens = prompt
  const prefill = await measureSteps(probe, [prompt], () => () => texts.prefill(1, prompt), how)
  const [{ topK, experts }] = runner.routers
  const result = {
    ...{ expert, decode, prefill, topK, hidden: config.hiddenSize },
    experts: expertCount(experts, 'ffn'),
    zeroComputation: expertCount(experts) - expertCount(experts, 'ffn'),
    layers: runner.routers.length,
    // A product that rounds its rows lets them travel so (native/parallel/rows.h).
    rowBytes: config.hiddenSize * (spec.compute === 'bf16' ? 2 : 4),
  }
  await runner.close()
  return result
}
