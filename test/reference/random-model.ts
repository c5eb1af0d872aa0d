/**
 * A random model against its f64 reference, through the public interface: all values of a forward
 * pass, and greedy continuations with their log-probabilities and routing. They run alone, in
 * ragged batches, and after prompts that begin alike.
 *
 * Tolerances come from the reference: 16 times the largest error of its f32 evaluation, and a few
 * eps of the largest value. If two experts or two tokens are too close to tell, the rest of that
 * text is not compared; few may be.
 */
import {
  type ForwardResult,
  type GenerateResult,
  type LoadOptions,
  loadModel,
} from '../../lib/index.js'
import { sortedPicks } from '../support/golden.js'
import { logprob, type Position } from './decoder-f64.js'
import type { Random } from './random-checkpoint.js'
import {
  distance,
  QUANTITIES,
  type Reference,
  type Rows,
  rowsOf,
  type Text,
} from './reference-text.js'

/**
 * Counts of compared values, and of those that could not be compared. The bound on the second keeps
 * the first from becoming empty.
 */
export interface Counts {
  positions: number
  unclearPositions: number
  tokens: number
  unclearTokens: number
}

function compareForward(
  reference: Reference,
  text: Text,
  { logits, captured }: ForwardResult,
  counts: Counts,
): string[] {
  const T = text.prompt.length
  const row = (values: ArrayLike<number>, p: number) => {
    const width = values.length / T
    return (values as Float32Array).subarray(p * width, (p + 1) * width)
  }
  const problems: string[] = []
  const clear = Math.min(T, text.clear)
  counts.positions += clear
  counts.unclearPositions += T - clear
  for (let p = 0; p < clear; p++) {
    const position = text.positions[p]!
    const perLayer = (name: string) =>
      reference.moeLayers.map(layer => row(captured[`layers.${layer}.${name}`]!, p))
    // The reference's has the shared expert's in it.
    const moeOutput = reference.moeLayers.map(layer => {
      const shared = captured[`layers.${layer}.shared_expert_output`]
      const routed = row(captured[`layers.${layer}.moe_output`]!, p)
      return shared ? routed.map((value, i) => value + row(shared, p)[i]!) : routed
    })
    const experts = perLayer('expert_indices')
    const weights = perLayer('expert_weights')
    const picks = experts.map((indices, l) => sortedPicks(indices, weights[l]!, indices.length))
    const got: Rows = {
      logits: [row(logits, p)],
      hidden: position.hidden.map((_, l) => row(captured[`hidden_states.${l}`]!, p)),
      finalHidden: [row(captured.final_hidden!, p)],
      moeOutput,
      routerLogits: perLayer('router_logits'),
      weights: picks.map(pick => pick.weights),
    }
    problems.push(...samePicks(position, picks, p))
    const want = rowsOf(position)
    for (const q of QUANTITIES) {
      const { worst } = distance(got[q], want[q])
      if (!(worst <= reference.tolerance(q))) {
        problems.push(`position ${p}: ${q} off by ${worst}, allowed ${reference.tolerance(q)}`)
      }
    }
  }
  return problems
}

function samePicks(
  { picks }: Position,
  got: readonly { experts: readonly number[] }[],
  p: number,
): string[] {
  return picks.flatMap(({ experts, weights }, l) => {
    const want = sortedPicks(experts, weights, experts.length).experts
    const same = want.every((expert, k) => got[l]!.experts[k] === expert)
    return same ? [] : [`position ${p} layer ${l}: experts ${got[l]!.experts}, expected ${want}`]
  })
}

export function compareGenerated(
  reference: Reference,
  text: Text,
  result: GenerateResult,
  counts: Counts,
): string[] {
  const problems: string[] = []
  const { steps } = text
  const T = text.prompt.length
  if (result.tokenIds.length !== steps)
    problems.push(`${result.tokenIds.length} tokens, expected ${steps}`)
  const allowed = 2 * reference.tolerance('logits')
  let step = 0
  for (; step < Math.min(steps, text.clear - T + 1); step++) {
    const { logits } = text.positions[T + step - 1]!
    const { tokenId, top } = result.logprobs![step]!
    for (const each of top) {
      const want = logprob(logits, each.tokenId)
      if (!(Math.abs(each.logprob - want) <= allowed)) {
        problems.push(
          `step ${step}: logprob of ${each.tokenId} is ${each.logprob}, expected ${want}`,
        )
      }
    }
    const [first, second] = logits.toSorted((a, b) => b - a)
    if (tokenId === text.tokens[step]) continue
    if (first! - (second ?? -Infinity) > allowed) {
      problems.push(`step ${step}: token ${tokenId}, expected ${text.tokens[step]}`)
    }
    break
  }
  counts.tokens += step
  counts.unclearTokens += steps - step
  const { tokens } = result.routing!
  const layers = result.routing!.layers.filter(layer => layer.expertIndices.length > 0)
  if (layers.length !== reference.moeLayers.length) problems.push(`${layers.length} routed layers`)
  if (tokens !== T + steps - 1)
    problems.push(`routing of ${tokens} tokens, expected ${T + steps - 1}`)
  for (let p = 0; p < Math.min(text.clear, T + step - 1); p++) {
    const { picks: wanted } = text.positions[p]!
    const picks = layers.map(({ expertIndices, expertWeights }, m) => {
      const k = wanted[m]!.experts.length
      const [from, to] = [p * k, (p + 1) * k]
      return sortedPicks(expertIndices.subarray(from, to), expertWeights.subarray(from, to), k)
    })
    problems.push(...samePicks(text.positions[p]!, picks, p))
    const weights = picks.map(pick => pick.weights)
    const { worst } = distance(weights, rowsOf(text.positions[p]!).weights)
    if (!(worst <= reference.tolerance('weights')))
      problems.push(`position ${p}: weights off by ${worst}`)
  }
  return problems
}

// Models

export const GREEDY = { ignoreEos: true, temperature: 0 }
const LENGTHS = [1, 2, 31, 32, 33, 64, 65]

export function randomPrompts(random: Random, vocab: number): number[][] {
  const lengths = [random.integer(3, 24), random.integer(1, 40), random.pick(LENGTHS)]
  return lengths.map(length => random.ids(length, vocab))
}

/** A prompt that begins like one of `texts`, which earlier calls have computed. */
export function sharingPrompt(random: Random, texts: readonly Text[], vocab: number): number[] {
  const { prompt, tokens } = random.pick(texts)
  const known = [...prompt, ...tokens]
  const shared = random.chance(0.3) ? known.length : random.integer(1, known.length)
  const more = random.integer(0, 9)
  return [...known.slice(0, shared), ...random.ids(more, vocab)]
}

interface Texts {
  readonly texts: readonly Text[]
  /** Each after all before it. */
  readonly later: readonly Text[]
}

/** Every way to ask for the texts of one model; returns what differs. */
export async function checkModel(
  directory: string,
  reference: Reference,
  { texts, later }: Texts,
  options: LoadOptions,
  counts: Counts,
): Promise<string[]> {
  const problems: string[] = []
  const note = (where: string, found: readonly string[]) => {
    problems.push(...found.slice(0, 5).map(problem => `${where}: ${problem}`))
  }
  await using model = await loadModel(directory, options)
  const capture = ['layers.*.*', 'hidden_states.*', 'final_hidden']
  const generate = (prompt: readonly number[], maxNewTokens: number, routing = true) =>
    model.generate(prompt, {
      ...GREEDY,
      maxNewTokens,
      logprobs: Math.min(8, model.config.vocabSize),
      routing,
    })

  // A call for each text, since each may have a length of its own.
  const [forward, together] = await Promise.all([
    model.forward(
      texts.map(text => text.prompt),
      { capture },
    ),
    Promise.all(texts.map(text => generate(text.prompt, text.steps))),
  ])
  for (const [i, text] of texts.entries()) {
    note(`forward of text ${i}`, compareForward(reference, text, forward[i]!, counts))
    note(`text ${i} with others`, compareGenerated(reference, text, together[i]!, counts))
    note(
      `text ${i} alone`,
      compareGenerated(reference, text, await generate(text.prompt, text.steps), counts),
    )
  }
  for (const [i, text] of later.entries()) {
    const plain = await generate(text.prompt, text.steps, false)
    const result = await generate(text.prompt, text.steps)
    note(
      `later text ${i}`,
      compareGenerated(reference, text, { ...plain, routing: result.routing! }, counts),
    )
    note(`later text ${i} with routing`, compareGenerated(reference, text, result, counts))
    const again = await model.forward(text.prompt, { capture })
    note(`forward of later text ${i}`, compareForward(reference, text, again, counts))
  }
  return problems
}
