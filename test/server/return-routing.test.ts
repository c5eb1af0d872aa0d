/** The field `return_routing`: FFN experts of the tokens of answers, whole and in pieces. */
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { type GenerateResult, loadModel } from '../../lib/index.js'
import { type Server, serve } from '../../lib/server/index.js'
import { chatCheckpoint } from '../support/chat-checkpoint.js'
import { root } from '../support/golden.js'
import { dictated } from './dictated.js'
import { checkAnswer, post, postStream } from './openai-answers.js'

const PROMPT = 'The old man'
const CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'

interface Routing {
  readonly first: number
  readonly prompt_tokens: number
  readonly ffn_experts: readonly number[]
}
interface Choice {
  readonly index: number
  readonly routing?: Routing
}

const model = await loadModel(join(root, 'models', 'books-7m'))
const server = await serve(model, { modelName: 'books' })
const quiet = await serve(model, { modelName: 'books', metrics: false })
t.teardown(async () => {
  await server.close()
  await quiet.close()
  await model.close()
})

/** The same numbers by the library: of each token, from the first one on. */
function expected({ routing }: Pick<GenerateResult, 'routing'>): number[] {
  const { tokens, layers } = routing!
  return Array.from({ length: tokens }, (_, token) => {
    const picks = layers.flatMap(({ topK, kinds, expertIndices, expertWeights }) =>
      Array.from({ length: topK }, (_, k) => token * topK + k).filter(
        i => kinds[expertIndices[i]!] === 'ffn' && expertWeights[i]! > 0,
      ),
    )
    return Math.round((1e4 * picks.length) / layers.length) / 1e4
  })
}

/** The routing of a choice whose pieces came in these events. */
function joined(t: Test, choices: readonly Choice[], index: number): Routing {
  const told = choices.flatMap(choice =>
    choice.index === index && choice.routing ? [choice.routing] : [],
  )
  const all: number[] = []
  for (const { first, prompt_tokens, ffn_experts } of told) {
    t.equal(first, told[0]!.first + all.length)
    t.equal(prompt_tokens, told[0]!.prompt_tokens)
    all.push(...ffn_experts)
  }
  return { ...told[0]!, ffn_experts: all }
}

const mean = (numbers: readonly number[]) =>
  numbers.reduce((sum, each) => sum + each, 0) / numbers.length

for (const [name, of] of [
  ['a server with metrics', server],
  ['one without', quiet],
] as const)
  t.test(`completions of ${name}`, t => completions(t, of))

async function completions(t: Test, of: Server): Promise<void> {
  const body = { prompt: PROMPT, max_tokens: 9, seed: 4, ignore_eos: true, return_routing: true }
  const whole = await model.generate(PROMPT, {
    maxNewTokens: 9,
    seed: 4,
    temperature: 1,
    topK: 0,
    ignoreEos: true,
    routing: true,
  })
  const { promptTokens } = whole.usage
  const { status, body: answer } = await post(of, '/v1/completions', body)
  t.equal(status, 200)
  checkAnswer('CreateCompletionResponse', answer)
  const cached: number = answer.usage.prompt_tokens_details.cached_tokens
  t.ok(cached > 0, 'the library has computed the prompt')
  t.strictSame(answer.choices[0].routing, {
    first: cached,
    prompt_tokens: promptTokens,
    ffn_experts: expected(whole).slice(cached),
  })
  const { ffn_experts_per_token: each } = answer.usage
  t.ok(Math.abs(each - mean(answer.choices[0].routing.ffn_experts)) < 1e-3)

  const events = await postStream(of, '/v1/completions', {
    ...body,
    n: 2,
    stream_options: { include_usage: true },
  })
  for (const event of events) checkAnswer('CreateCompletionResponse', event)
  const { usage } = events.pop()
  const choices: Choice[] = events.flatMap(event => event.choices)
  t.strictSame(joined(t, choices, 0), answer.choices[0].routing)
  const both = [0, 1].flatMap(index => joined(t, choices, index).ffn_experts)
  t.ok(Math.abs(usage.ffn_experts_per_token - mean(both)) < 1e-3)

  const best = await post(of, '/v1/completions', { ...body, prompt: [PROMPT, 'She'], best_of: 3 })
  for (const { routing } of best.body.choices)
    t.equal(routing.first + routing.ffn_experts.length, routing.prompt_tokens + 8)
  const none = { ...body, max_tokens: 0, prompt: 'A text that is new' }
  const [event] = await postStream(of, '/v1/completions', none)
  const { routing } = event.choices[0]
  t.equal(routing.first + routing.ffn_experts.length, routing.prompt_tokens)

  const { return_routing: _, ...unasked } = body
  for (const plain of [unasked, { ...body, return_routing: false }]) {
    const { choices, usage } = (await post(of, '/v1/completions', plain)).body
    t.notOk('routing' in choices[0] || 'ffn_experts_per_token' in usage, 'not unless asked')
    for (const event of await postStream(of, '/v1/completions', plain))
      t.notOk('routing' in event.choices[0])
    const silent = { ...plain, max_tokens: 0 }
    for (const prompt of ['Another new text', PROMPT]) {
      const events = await postStream(of, '/v1/completions', { ...silent, prompt })
      t.same(
        events.map(({ choices }) => choices[0].finish_reason),
        ['length'],
        'no event of its own',
      )
    }
  }
}

t.test('chats: thoughts, a call that is held back, an end token', async t => {
  const own = await loadModel(chatCheckpoint(t.testdir()))
  const dictation = dictated(own)
  const chats = await serve(dictation.model)
  t.teardown(async () => {
    await chats.close()
    await own.close()
  })
  const url = '/v1/chat/completions'
  const tool = { type: 'function', function: { name: 'weather', parameters: { type: 'object' } } }
  const body = {
    messages: [{ role: 'user', content: 'Name a river.' }],
    tools: [tool],
    return_routing: true,
  }
  dictation.says = `<think>\nhm\n</think>\n\nLet me see.\n${CALL}`
  const { body: first } = await post(chats, url, body)
  t.equal(first.choices[0].finish_reason, 'tool_calls')
  checkAnswer('CreateChatCompletionResponse', first)
  const { routing } = first.choices[0]
  t.equal(routing.first, 0)
  t.equal(routing.prompt_tokens, first.usage.prompt_tokens)
  t.equal(routing.ffn_experts.length, first.usage.total_tokens - 1, 'all but the last')
  t.ok(new Set(routing.ffn_experts).size > 1)
  const events = await postStream(chats, url, body)
  for (const event of events) checkAnswer('CreateChatCompletionStreamResponse', event)
  const told = joined(
    t,
    events.flatMap(event => event.choices),
    0,
  )
  t.ok(told.first > 0, 'behind the cached tokens')
  t.strictSame(told.ffn_experts, routing.ffn_experts.slice(told.first))
  dictation.says = undefined
})

t.test('a wrong type is named', async t => {
  for (const [url, body] of [
    ['/v1/completions', { prompt: PROMPT }],
    ['/v1/chat/completions', { messages: [{ role: 'user', content: 'a' }] }],
  ] as const)
    for (const return_routing of [1, 'true', {}]) {
      const { status, body: answer } = await post(server, url, { ...body, return_routing })
      t.equal(status, 400)
      checkAnswer('ErrorResponse', answer)
      t.match(answer.error, { param: 'return_routing', message: /expected true or false/ })
    }
})

t.test('the model says how many experts a token picks', async t => {
  const { body } = await server.app.inject('/v1/models/books')
  t.equal(JSON.parse(body).experts_per_token, model.config.topK)
})
