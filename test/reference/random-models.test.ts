/**
 * Random small models against the f64 reference, through the public interface. It compares all
 * values of a forward pass, and greedy continuations with their log-probabilities and routing. They
 * run alone, in ragged batches, and after prompts that begin alike.
 *
 * Tolerances come from the reference: 16 times the largest error of its f32 evaluation, and a few
 * eps of the largest value. If two experts or two tokens are too close to tell, the rest of that
 * text is not compared; few may be.
 *
 * MOEPP_RANDOM_MODELS and MOEPP_RANDOM_SEED run a longer campaign.
 */
import t from 'tap'
import {
  type ForwardResult,
  type GenerateResult,
  type LoadOptions,
  loadModel,
} from '../../lib/index.js'
import { directoryWith } from '../checkpoint/files.js'
import { logprob, type Position } from './model-f64.js'
import { Random, randomCheckpoint } from './random-checkpoint.js'
import {
  distance,
  QUANTITIES,
  Reference,
  type Rows,
  rowsOf,
  sortedPick,
  type Text,
} from './reference-text.js'

const COUNT = Number(process.env.MOEPP_RANDOM_MODELS ?? 40)
const FIRST_SEED = Number(process.env.MOEPP_RANDOM_SEED ?? 1)
const CORNER_SEED = Number(process.env.MOEPP_RANDOM_SEED ?? 500)

/**
 * Counts of compared values, and of those that could not be compared. The bound on the second keeps
 * the first from becoming empty.
 */
const counts = { positions: 0, unclearPositions: 0, tokens: 0, unclearTokens: 0 }

function compareForward(
  reference: Reference,
  text: Text,
  { logits, captured }: ForwardResult,
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
      position.moeOutput.map((_, l) => row(captured[`layers.${l}.${name}`]!, p))
    const experts = perLayer('expert_indices')
    const weights = perLayer('expert_weights')
    const picks = experts.map((indices, l) => sortedPick(indices, weights[l]!, 0))
    const got: Rows = {
      logits: [row(logits, p)],
      hidden: position.hidden.map((_, l) => row(captured[`hidden_states.${l}`]!, p)),
      finalHidden: [row(captured.final_hidden!, p)],
      moeOutput: perLayer('moe_output'),
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
    const want = sortedPick(experts, weights, 0).experts
    const same = want.every((expert, k) => got[l]!.experts[k] === expert)
    return same ? [] : [`position ${p} layer ${l}: experts ${got[l]!.experts}, expected ${want}`]
  })
}

function compareGenerated(reference: Reference, text: Text, result: GenerateResult): string[] {
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
      const want = logprob(text.positions[T + step - 1]!, each.tokenId)
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
  const { layers, tokens } = result.routing!
  if (tokens !== T + steps - 1)
    problems.push(`routing of ${tokens} tokens, expected ${T + steps - 1}`)
  for (let p = 0; p < Math.min(text.clear, T + step - 1); p++) {
    const picks = layers.map(layer => sortedPick(layer.expertIndices, layer.expertWeights, p))
    problems.push(...samePicks(text.positions[p]!, picks, p))
    const weights = picks.map(pick => pick.weights)
    const { worst } = distance(weights, rowsOf(text.positions[p]!).weights)
    if (!(worst <= reference.tolerance('weights')))
      problems.push(`position ${p}: weights off by ${worst}`)
  }
  return problems
}

// Models

const GREEDY = { ignoreEos: true, temperature: 0 }
const LENGTHS = [1, 2, 31, 32, 33, 64, 65]

function randomPrompts(random: Random, vocab: number): number[][] {
  const lengths = [random.integer(3, 24), random.integer(1, 40), random.pick(LENGTHS)]
  return lengths.map(length => random.ids(length, vocab))
}

/** A prompt that begins like one of `texts`, which earlier calls have computed. */
function sharingPrompt(random: Random, texts: readonly Text[], vocab: number): number[] {
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
async function checkModel(
  directory: string,
  reference: Reference,
  { texts, later }: Texts,
  options: LoadOptions,
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
    note(`forward of text ${i}`, compareForward(reference, text, forward[i]!))
    note(`text ${i} with others`, compareGenerated(reference, text, together[i]!))
    note(
      `text ${i} alone`,
      compareGenerated(reference, text, await generate(text.prompt, text.steps)),
    )
  }
  for (const [i, text] of later.entries()) {
    const plain = await generate(text.prompt, text.steps, false)
    const result = await generate(text.prompt, text.steps)
    note(
      `later text ${i}`,
      compareGenerated(reference, text, { ...plain, routing: result.routing! }),
    )
    note(`later text ${i} with routing`, compareGenerated(reference, text, result))
    const again = await model.forward(text.prompt, { capture })
    note(`forward of later text ${i}`, compareForward(reference, text, again))
  }
  return problems
}

for (let seed = FIRST_SEED; seed < FIRST_SEED + COUNT; seed++) {
  const checkpoint = randomCheckpoint(seed)
  t.test(`model ${seed}`, async t => {
    t.comment(checkpoint.description)
    const random = new Random(seed + 1e6)
    const directory = directoryWith(t.testdir(), 'model', checkpoint.files)
    const { vocab } = checkpoint.reference
    const reference = new Reference(checkpoint)
    const steps = 12
    const texts = randomPrompts(random, vocab).map(prompt => reference.text(prompt, steps))
    const later = [1, 2].map(() => reference.text(sharingPrompt(random, texts, vocab), steps))
    for (const options of [{}, { dtype: 'float32', threads: random.integer(1, 5) }] as const) {
      const problems = await checkModel(directory, reference, { texts, later }, options)
      t.equal(problems.join('\n'), '', JSON.stringify(options))
    }
  })
}

// Corners

interface Corner {
  readonly name: string
  readonly config: Readonly<Record<string, unknown>>
  readonly lengths: readonly number[]
  readonly steps: number
  readonly options?: LoadOptions
}

const SMALL = {
  vocab_size: 61,
  hidden_size: 24,
  intermediate_size: 19,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  num_experts: [9],
  pretraining_tp: 1,
}
const ONES = {
  vocab_size: 1,
  hidden_size: 2,
  num_attention_heads: 1,
  num_key_value_heads: 1,
  pretraining_tp: 1,
}
const dynamic = (max_position_embeddings: number) => ({
  ...SMALL,
  rope_scaling: { type: 'dynamic', factor: 2 },
  max_position_embeddings,
})
const crowd = Array.from({ length: 20 }, (_, i) => 20 + 2 * i)

const corners: readonly Corner[] = [
  {
    name: 'least sizes',
    config: { ...ONES, intermediate_size: 1, num_experts: [4], max_position_embeddings: 1 },
    lengths: [1, 33],
    steps: 3,
  },
  {
    name: 'two tokens',
    config: { ...ONES, vocab_size: 2, num_experts: [5] },
    lengths: [1, 2, 40],
    steps: 12,
  },
  {
    name: 'matrices of several tiles',
    config: { ...SMALL, vocab_size: 515, hidden_size: 220, intermediate_size: 259 },
    lengths: [70, 19],
    steps: 3,
  },
  { name: 'several chunks', config: SMALL, lengths: [513, 1, 64], steps: 4 },
  { name: 'several chunks, dynamic RoPE', config: dynamic(510), lengths: [508, 700, 30], steps: 6 },
  {
    name: 'the context ends',
    config: dynamic(20),
    lengths: [1, 31, 32, 33, 39],
    steps: 60,
    options: { contextLength: 40 },
  },
  {
    name: 'more texts than the cache holds',
    config: dynamic(30),
    lengths: crowd,
    steps: 40,
    options: { kvCacheTokens: 160 },
  },
  {
    name: 'the cache is one page',
    config: dynamic(9),
    lengths: [3, 30, 20],
    steps: 40,
    options: { kvCacheTokens: 32 },
  },
]

for (const [i, { name, config, lengths, steps, options = {} }] of corners.entries()) {
  t.test(name, async t => {
    const checkpoint = randomCheckpoint(CORNER_SEED + i, config)
    t.comment(checkpoint.description)
    const random = new Random(CORNER_SEED + i)
    const reference = new Reference(checkpoint)
    const { vocab } = checkpoint.reference
    const limit = Math.min(options.contextLength ?? Infinity, options.kvCacheTokens ?? Infinity)
    const text = (prompt: readonly number[]) =>
      reference.text(prompt, Math.min(steps, limit - prompt.length))
    const texts = lengths.map(length => text(random.ids(length, vocab)))
    const shared = [1, 2].map(() => sharingPrompt(random, texts, vocab).slice(0, limit - 1))
    const later = shared.map(text)
    const directory = directoryWith(t.testdir(), 'model', checkpoint.files)
    const problems = await checkModel(
      directory,
      reference,
      { texts: [...texts, texts[0]!], later },
      options,
    )
    t.equal(problems.join('\n'), '')
  })
}

t.test('sampled texts have the probabilities of their tokens', async t => {
  const checkpoint = randomCheckpoint(CORNER_SEED + 100, dynamic(12))
  const reference = new Reference(checkpoint)
  await using model = await loadModel(directoryWith(t.testdir(), 'model', checkpoint.files))
  const prompt = new Random(7).ids(9, 61)
  const options = {
    ignoreEos: true,
    temperature: 3,
    seed: 3,
    maxNewTokens: 20,
    logprobs: 61,
    routing: true,
  }
  const results = await model.generate([prompt, prompt.slice(0, 5)], {
    ...options,
    numReturnSequences: 3,
  })
  t.equal(results.length, 6)
  t.equal(new Set(results.map(result => `${result.tokenIds}`)).size, 6, 'each is a text of its own')
  for (const [i, result] of results.entries()) {
    const text = reference.text(i < 3 ? prompt : prompt.slice(0, 5), 20, result.tokenIds)
    t.equal(compareGenerated(reference, text, result).join('\n'), '', `text ${i}`)
    const whole = reference.text([...text.prompt, ...text.tokens.slice(0, -1)], 1)
    const score = await model.score(text.prompt, text.tokens)
    const wanted = text.tokens.map((token, k) =>
      logprob(whole.positions[text.prompt.length + k - 1]!, token),
    )
    const { worst } = distance([score.logprobs], [wanted])
    if (whole.clear >= text.prompt.length + 19)
      t.ok(worst <= 2 * reference.tolerance('logits'), `score off by ${worst}`)
  }
})

t.test('little is too close to compare', async t => {
  const { positions, unclearPositions, tokens, unclearTokens } = counts
  t.comment(JSON.stringify(counts))
  t.ok(unclearPositions < 0.05 * positions, `${unclearPositions} positions of ${positions}`)
  t.ok(unclearTokens < 0.05 * tokens, `${unclearTokens} tokens of ${tokens}`)
})
