/** Texts of any length as prompts: other events run meanwhile, and what cannot fit is refused. */
import t from 'tap'
import { checkPrompt, type PromptContext, promptIds } from '../../lib/generation/prompt.js'
import { loadTokenizer } from '../../lib/tokenizer/tokenizer.js'
import { golden } from '../support/golden.js'
import { countTurns } from '../tokenizer/slow-clock.js'
import { fakeModel, tokenizer } from './fake-model.js'

const LENGTH = 100_000
const TEXT = 'The old man said. '.repeat(LENGTH / 18)
const TURNS = TEXT.length / 4096
const roomy = { contextLength: LENGTH, pages: LENGTH, pageSize: 1, maxStepTokens: LENGTH }
const once = { maxNewTokens: 1 }

type Call = (model: ReturnType<typeof fakeModel>['model'], signal: AbortSignal) => Promise<unknown>

/** Number of turns of other events until the first step, which fails: the test needs no step. */
async function turnsBeforeStep(call: Call): Promise<number> {
  let turns = 0
  const { model, runner } = fakeModel(roomy)
  runner.failures.push(new Error('no step'))
  await countTurns(
    () => call(model, new AbortController().signal).catch(() => {}),
    turn => {
      if (runner.failures.length > 0) turns = turn
    },
  )
  await model.close()
  return turns
}

t.test('other events run while prompts are encoded', async t => {
  const calls: Record<string, Call> = {
    generate: model => model.generate(TEXT, once),
    stream: model => model.stream(TEXT, once).next(),
    score: model => model.score(TEXT, ' And so'),
    'score after ids': model => model.score([1], TEXT),
  }
  for (const [name, call] of Object.entries(calls)) {
    const turns = await turnsBeforeStep(call)
    t.ok(turns >= TURNS, `${name}: ${turns} turns`)
  }
  const lines = Array.from({ length: 60 }, () => 'The old man said. '.repeat(100))
  const turns = await turnsBeforeStep(model => model.generate(lines, once))
  t.ok(turns >= lines.length, `a batch: ${turns} turns`)
})

t.test('an abort while a prompt is encoded', async t => {
  const abortLater = async (call: Call) => {
    const controller = new AbortController()
    const { model, runner } = fakeModel(roomy)
    const { result, turns } = await countTurns(
      () => call(model, controller.signal).catch(error => error),
      turn => {
        if (turn === 3) controller.abort()
      },
    )
    t.ok(turns < TURNS / 2, `${turns} turns`)
    t.equal(runner.steps.length, 0)
    await model.close()
    return result
  }
  const aborted = { finishReason: 'abort', text: '', tokenIds: [], usage: { promptTokens: 0 } }
  t.match(await abortLater((model, signal) => model.generate(TEXT, { signal })), aborted)
  t.match(await abortLater((model, signal) => model.generate([TEXT, 'The'], { signal })), [
    aborted,
    aborted,
  ])
  t.match(await abortLater((model, signal) => model.stream(TEXT, { signal }).result), aborted)
  t.match(
    await abortLater((model, signal) => model.stream(TEXT, { signal }).next()),
    { done: true, value: undefined },
    'a read ends',
  )
  t.match(await abortLater((model, signal) => model.score(TEXT, 'x', { signal })), {
    code: 'ERR_ABORTED',
  })
})

t.test('leaving a stream while its prompt is encoded', async t => {
  const { model, runner } = fakeModel(roomy)
  const stream = model.stream(TEXT)
  const { result, turns } = await countTurns(
    () => stream.result,
    turn => {
      if (turn === 3) stream.return()
    },
  )
  t.match(result, { finishReason: 'abort' })
  t.ok(turns < TURNS / 2, `${turns} turns`)
  t.equal(runner.steps.length, 0)
})

t.test('a text that cannot fit is refused before it is encoded', async t => {
  const { model } = fakeModel()
  const most = 200 * tokenizer.maxTokenLength
  const refused = (name: string) => ({
    code: 'ERR_BAD_PROMPT',
    message: `${name}: has 1000000 characters, expected at most ${most}: the context holds 200 tokens`,
    tokens: { got: Math.ceil(1_000_000 / tokenizer.maxTokenLength), most: 200 },
  })
  for (const unit of ['a', '\0', '\ud800']) {
    const text = unit.repeat(1_000_000)
    const { turns } = await countTurns(() => t.rejects(model.generate(text), refused('prompt')))
    t.ok(turns < 3, `${turns} turns`)
    await t.rejects(model.generate(['a', text]), refused('prompt[1]'))
    t.throws(() => model.stream(text), refused('prompt'))
    await t.rejects(model.score(text, 'a'), {
      code: 'ERR_BAD_PROMPT',
      message: /^prompt and continuation: has 1000001 characters/,
    })
  }
  await t.rejects(model.generate('a'.repeat(most)), {
    code: 'ERR_BAD_PROMPT',
    message: 'prompt: has at least 801 tokens, but the context holds 200',
    tokens: { got: 801, most: 200 },
  })
  const text = ' the old man'.repeat(100)
  const got = tokenizer.encode(text).length
  t.ok(got > 200 && got <= 800)
  await t.rejects(model.generate(text), {
    message: `prompt: has ${got} tokens, but the context holds 200`,
    tokens: { got, most: 200 },
  })
  const many = new Array(1_000_000).fill('x')
  many[0] = 1
  await t.rejects(model.generate(many), {
    message: /^prompt: has 1000000 tokens/,
    tokens: { got: 1_000_000, most: 200 },
  })
})

t.test('a token that stands for any number of characters', async t => {
  const plain = await loadTokenizer(`${golden}/tokenizer/bpe-plain`)
  const context: PromptContext = {
    tokenizer: plain,
    vocabSize: plain.vocabSize,
    contextLength: 10,
    maxTokens: 10,
  }
  const how = { addSpecialTokens: undefined, signal: undefined }
  const ids = (text: string) =>
    promptIds(checkPrompt(text, 'prompt', context), 'prompt', context, how)
  const unknown = '\u{10fffd}'.repeat(50_000)
  t.equal((await ids(unknown)).at(-1), plain.unkTokenId)
  const { turns } = await countTurns(() =>
    t.rejects(ids('a b '.repeat(50_000)), { message: /has at least 41 tokens/ }),
  )
  t.ok(turns < 5, `${turns} turns`)
})
