/** /v1/completions: texts, choices, errors, and log-probabilities as the harness reads them. */
import { join } from 'node:path'
import t from 'tap'
import { loadModel } from '../../lib/index.js'
import { serve } from '../../lib/server/index.js'
import { root } from '../support/golden.js'
import { checkAnswer, post, postStream } from './openai-answers.js'

const URL = '/v1/completions'
const PROMPT = 'The old man'

const model = await loadModel(join(root, 'models', 'books-7m'))
const server = await serve(model, { modelName: 'books' })
t.teardown(async () => {
  await server.close()
  await model.close()
})
const { tokenizer, contextLength } = model

async function complete(body: object) {
  const { status, body: answer } = await post(server, URL, body)
  if (status !== 200) throw new Error(`${status}: ${JSON.stringify(answer)}`)
  checkAnswer('CreateCompletionResponse', answer)
  return answer
}

t.test('a text is that of generate', async t => {
  const answer = await complete({ model: 'books', prompt: PROMPT, max_tokens: 12, seed: 5 })
  const options = { maxNewTokens: 12, temperature: 1, topK: 0, seed: 5 }
  const { text, usage } = await model.generate(PROMPT, options)
  t.equal(answer.choices[0].text, text, 'sampled from all tokens, at temperature 1')
  t.match(answer.id, /^cmpl-\w+$/)
  t.match(answer, { object: 'text_completion', model: 'books', choices: [{ logprobs: null }] })
  t.match(answer.usage, { prompt_tokens: usage.promptTokens, completion_tokens: 12 })
  t.equal(answer.usage.total_tokens, usage.promptTokens + 12)
  const again = await complete({ prompt: PROMPT, max_tokens: 12, seed: 5 })
  t.equal(again.system_fingerprint, answer.system_fingerprint)
  t.equal(again.usage.prompt_tokens_details.cached_tokens, usage.promptTokens - 1)
})

t.test('the default is 16 tokens', async t => {
  const { usage, choices } = await complete({ prompt: PROMPT, ignore_eos: true, seed: null })
  t.equal(usage.completion_tokens, 16)
  t.equal(choices[0].finish_reason, 'length')
})

t.test('of two limits the least counts', async t => {
  for (const limits of [
    { max_tokens: 3, max_new_tokens: 5 },
    { max_tokens: 5, max_new_tokens: 3 },
    { max_new_tokens: 3 },
  ]) {
    const { usage } = await complete({ prompt: PROMPT, ignore_eos: true, ...limits })
    t.equal(usage.completion_tokens, 3)
  }
})

t.test('prompts as text, ids, and lists of either; choices in order', async t => {
  const ids = tokenizer.encode(PROMPT)
  const options = { max_tokens: 6, temperature: 0 }
  const [{ text }] = (await complete({ prompt: PROMPT, ...options })).choices
  for (const prompt of [ids, [PROMPT], [ids]])
    t.equal((await complete({ prompt, ...options })).choices[0].text, text)
  const several = await complete({
    prompt: [PROMPT, 'She said', ids],
    n: 2,
    seed: 3,
    max_tokens: 6,
  })
  t.strictSame(
    several.choices.map(({ index }: { index: number }) => index),
    [0, 1, 2, 3, 4, 5],
  )
  const alone = await complete({ prompt: PROMPT, n: 2, seed: 3, max_tokens: 6 })
  const texts = several.choices.map((choice: { text: string }) => choice.text)
  t.strictSame(texts.slice(4), texts.slice(0, 2), 'a seed means the same for each prompt')
  t.strictSame(
    texts.slice(0, 2),
    alone.choices.map((choice: { text: string }) => choice.text),
  )
  const second = await complete({ prompt: PROMPT, seed: 4, max_tokens: 6 })
  t.equal(second.choices[0].text, texts[1], 'text i has the seed + i')
  t.equal(alone.usage.prompt_tokens, ids.length, 'a prompt counts once')
})

t.test('a text without its begin token', async t => {
  const plain = await complete({ prompt: PROMPT, add_special_tokens: false, max_tokens: 1 })
  t.equal(plain.usage.prompt_tokens, tokenizer.encode(PROMPT).length - 1)
  const empty = await complete({ prompt: '', max_tokens: 1 })
  t.equal(empty.usage.prompt_tokens, 1, 'an empty text is its begin token')
})

t.test('stop strings end a text and are left out', async t => {
  const options = { prompt: PROMPT, max_tokens: 40, temperature: 0 }
  const { text } = (await complete(options)).choices[0]
  const word = text.split(' ')[3]
  const stop = ['@@@', ...Array.from({ length: 6 }, (_, i) => `#${i}#`), word]
  const [cut] = (await complete({ ...options, stop })).choices
  t.equal(cut.text, text.slice(0, text.indexOf(word)))
  t.equal(cut.finish_reason, 'stop')
  t.equal((await complete({ ...options, stop: word })).choices[0].text, cut.text)
})

t.test('options of sampling reach the engine', async t => {
  const id = tokenizer.encode(' sea', { addSpecialTokens: false }).at(-1)!
  const options = { prompt: PROMPT, max_tokens: 3, temperature: 0 }
  const biased = await complete({ ...options, logit_bias: { [id]: 100 }, logprobs: 0 })
  t.strictSame(biased.choices[0].logprobs.tokens, Array(3).fill(tokenizer.pieces.texts[id]))
  const greedy = await complete(options)
  for (const narrow of [{ top_k: 1 }, { top_p: 0.0001 }, { min_p: 1 }]) {
    const narrowed = await complete({ ...options, temperature: 1, ...narrow })
    t.equal(narrowed.choices[0].text, greedy.choices[0].text, JSON.stringify(narrow))
  }
  const penalised = await complete({
    ...options,
    max_tokens: 20,
    repetition_penalty: 5,
    presence_penalty: 1,
    frequency_penalty: 1,
  })
  t.not(penalised.choices[0].text, (await complete({ ...options, max_tokens: 20 })).choices[0].text)
  const stopped = await complete({ ...options, stop_token_ids: [id], logit_bias: { [id]: 100 } })
  t.match(stopped.choices[0], { text: '', finish_reason: 'stop' })
  const more = { stop_token_ids: [id], logit_bias: { [id]: 100 }, min_tokens: 2 }
  t.equal((await complete({ ...options, ...more })).usage.completion_tokens, 3)
})

t.test('the best of several', async t => {
  const options = { prompt: PROMPT, max_tokens: 8, seed: 1 }
  const all = await complete({ ...options, n: 5, logprobs: 0 })
  const mean = ({ logprobs }: { logprobs: { token_logprobs: number[] } }) =>
    logprobs.token_logprobs.reduce((sum, x) => sum + x, 0) / logprobs.token_logprobs.length
  const sorted = all.choices.toSorted((a: never, b: never) => mean(b) - mean(a))
  const best = await complete({ ...options, n: 2, best_of: 5 })
  t.strictSame(
    best.choices.map((choice: { text: string }) => choice.text),
    sorted.slice(0, 2).map((choice: { text: string }) => choice.text),
  )
  t.strictSame(
    best.choices.map((choice: { logprobs: unknown }) => choice.logprobs),
    [null, null],
  )
  t.equal(best.usage.completion_tokens, 40, 'all of them count')
})

t.test('forms of texts', async t => {
  const choice = await complete({ prompt: PROMPT, guided_choice: ['yes (a)', 'no.'] })
  t.ok(['yes (a)', 'no.'].includes(choice.choices[0].text))
  const format = { type: 'json_object' }
  const object = await complete({ prompt: PROMPT, response_format: format, max_tokens: 4 })
  t.match(object.choices[0].text, /^\s*\{/)
  const regex = { structured_outputs: { regex: '[a-c]{3}' } }
  t.match((await complete({ prompt: PROMPT, ...regex })).choices[0].text, /^[a-c]{3}$/)
})

t.test('log-probabilities of a text', async t => {
  const options = { prompt: PROMPT, max_tokens: 6, seed: 2 }
  const { text, logprobs } = (await complete({ ...options, logprobs: 3 })).choices[0]
  const result = await model.generate(PROMPT, {
    maxNewTokens: 6,
    temperature: 1,
    topK: 0,
    seed: 2,
    logprobs: 3,
  })
  t.equal(text, result.text)
  t.strictSame(
    logprobs.token_logprobs,
    result.logprobs!.map(({ logprob }) => logprob),
  )
  t.equal(logprobs.tokens.join(''), text)
  t.strictSame(
    logprobs.text_offset.map((offset: number, i: number) =>
      text.slice(offset, logprobs.text_offset[i + 1]),
    ),
    logprobs.tokens,
  )
  for (const [i, top] of logprobs.top_logprobs.entries()) {
    t.equal(top[logprobs.tokens[i]], logprobs.token_logprobs[i])
    t.ok([3, 4].includes(Object.keys(top).length))
  }
  const none = (await complete({ ...options, logprobs: 0 })).choices[0].logprobs
  t.strictSame(none.token_logprobs, logprobs.token_logprobs)
  t.strictSame(Object.keys(none.top_logprobs[0]), [none.tokens[0]])
})

t.test('a prompt alone', async t => {
  const { choices, usage } = await complete({
    prompt: PROMPT,
    max_tokens: 0,
    echo: true,
    logprobs: 2,
  })
  const ids = tokenizer.encode(PROMPT)
  t.match(choices[0], { text: PROMPT, finish_reason: 'length' })
  const { tokens, token_logprobs, top_logprobs } = choices[0].logprobs
  for (const list of [tokens, token_logprobs, top_logprobs]) t.equal(list.length, ids.length)
  for (const list of [token_logprobs, top_logprobs]) t.equal(list[0], null)
  t.equal(tokens[0], '<s>')
  t.strictSame(choices[0].logprobs.text_offset, [0, 0, 3, 7])
  t.equal(usage.completion_tokens, 0)
  const silent = await complete({ prompt: PROMPT, max_tokens: 0 })
  t.match(silent.choices[0], { text: '', logprobs: null })
})

t.test('an echo without log-probabilities, and of ids', async t => {
  const options = { max_tokens: 4, temperature: 0 }
  const { text } = (await complete({ prompt: PROMPT, ...options })).choices[0]
  for (const prompt of [PROMPT, tokenizer.encode(PROMPT)])
    t.equal((await complete({ prompt, echo: true, ...options })).choices[0].text, PROMPT + text)
})

t.test('offsets are characters, and bytes are named', async t => {
  const bytes = ['<0xE2>', '<0x96>', '<0x81>'].map(name => tokenizer.tokenToId(name)!)
  const word = tokenizer.encode('sea', { addSpecialTokens: false })
  const { text, logprobs } = (
    await complete({ prompt: [1, ...bytes, ...word], echo: true, max_tokens: 0, logprobs: 1 })
  ).choices[0]
  t.equal(text, '\u2581 sea')
  t.strictSame(logprobs.tokens.slice(0, 4), ['<s>', 'bytes:\\xe2', 'bytes:\\x96', 'bytes:\\x81'])
  t.strictSame(logprobs.text_offset.slice(0, 5), [0, 0, 0, 0, 1])
  const half = await complete({ prompt: [1, bytes[0]!], echo: true, max_tokens: 0 })
  t.equal(half.choices[0].text, '\ufffd')
})

t.test('the form of vLLM', async t => {
  const options = { prompt: PROMPT, max_tokens: 1 }
  const ids = tokenizer.encode(PROMPT)
  const { prompt_logprobs } = (await complete({ ...options, prompt_logprobs: 2 })).choices[0]
  const { promptLogprobs } = await model.generate(PROMPT, { maxNewTokens: 0, promptLogprobs: 2 })
  t.equal(prompt_logprobs[0], null)
  for (const [i, id] of ids.entries()) {
    if (i === 0) continue
    t.equal(prompt_logprobs[i][id].logprob, promptLogprobs![i]!.logprob)
    const [first] = promptLogprobs![i]!.top
    t.match(prompt_logprobs[i][first!.tokenId], { logprob: first!.logprob, rank: 1 })
  }
})

t.test('a prompt must leave room for a token', async t => {
  const full = Array(contextLength).fill(5)
  const refused = await post(server, URL, { prompt: full, max_tokens: 1 })
  t.equal(refused.status, 400)
  t.match(refused.body.error, {
    param: 'prompt',
    code: 'context_length_exceeded',
    n_prompt_tokens: contextLength,
    n_ctx: contextLength,
  })
  const text = await post(server, URL, { prompt: 'x '.repeat(contextLength) })
  t.equal(text.body.error.n_prompt_tokens, tokenizer.encode('x '.repeat(contextLength)).length)
  const cut = await complete({ prompt: full.slice(3), max_tokens: 100, ignore_eos: true })
  t.match(cut, { usage: { completion_tokens: 3 }, choices: [{ finish_reason: 'length' }] })
})

const WRONG: readonly [object, string, RegExp][] = [
  [{}, 'prompt', /expected/],
  [{ prompt: 7 }, 'prompt', /text or a list/],
  [{ prompt: [] }, 'prompt', /\[\]/],
  [{ prompt: [[]] }, 'prompt', /at least one token/],
  [{ prompt: ['a', [1, -2]] }, 'prompt[1][1]', /token id from 0/],
  [{ prompt: [1, 'a'] }, 'prompt[1]', /token id/],
  [{ prompt: 'a', temperature: '1' }, 'temperature', /finite number/],
  [{ prompt: 'a', temperature: -1 }, 'temperature', /finite number/],
  [{ prompt: 'a', top_p: 2 }, 'top_p', /<= 1/],
  [{ prompt: 'a', n: 0 }, 'n', /from 1 to 128/],
  [{ prompt: 'a', n: 3, best_of: 2 }, 'best_of', /at least n/],
  [{ prompt: 'a', best_of: 2, stream: true }, 'best_of', /stream/],
  [{ prompt: 'a', logprobs: 21 }, 'logprobs', /20/],
  [{ prompt: 'a', max_tokens: -1 }, 'max_tokens', />= 0/],
  [{ prompt: 'a', max_tokens: 2, min_tokens: 3 }, 'min_tokens', /at most/],
  [{ prompt: 'a', logit_bias: { 99999: 1 } }, 'logit_bias', /token id/],
  [{ prompt: 'a', logit_bias: [1] }, 'logit_bias', /object/],
  [{ prompt: 'a', seed: 2 ** 60 }, 'seed', /integer/],
  [{ prompt: 'a', stop: [''] }, 'stop[0]', /empty/],
  [{ prompt: 'a', stop: ['x'.repeat(4000), 'y'.repeat(97)] }, 'stop', /at most 4096 .*, got 4097/],
  [{ prompt: 'a', suffix: 'b' }, 'suffix', /not supported/],
  [{ prompt: 'a', stream_options: { include_usage: true } }, 'stream_options', /stream/],
  [
    { prompt: 'a', stream: true, stream_options: { usage: true } },
    'stream_options.usage',
    /unknown/,
  ],
  [{ prompt: 'a', temprature: 1 }, 'temprature', /did you mean temperature/],
  [{ prompt: 'a', use_beam_search: true }, 'use_beam_search', /only false/],
  [{ prompt: 'a', response_format: { type: 'xml' } }, 'response_format.type', /json_object/],
  [{ prompt: 'a', guided_regex: '(?=a)' }, 'guided_regex', /not supported/],
  [{ prompt: 'a', guided_json: '{' }, 'guided_json', /JSON schema/],
  [{ prompt: 'a', guided_regex: 'a', guided_json: {} }, 'guided_regex', /together/],
]

for (const [body, param, message] of WRONG)
  t.test(`refused: ${JSON.stringify(body).slice(0, 70)}`, async t => {
    const { status, body: answer } = await post(server, URL, body)
    t.equal(status, 400)
    checkAnswer('ErrorResponse', answer)
    t.match(answer.error, { type: 'invalid_request_error', param })
    t.match(answer.error.message, message)
    t.notMatch(answer.error.message, /[a-z][A-Z]/, 'no name of the library')
  })

t.test('a field that bans every token', async t => {
  const logit_bias = Object.fromEntries(Array.from({ length: 2048 }, (_, id) => [id, -100]))
  const { status } = await post(server, URL, { prompt: PROMPT, max_tokens: 2, logit_bias })
  t.equal(status, 200, '-100 makes a token unlikely, and bans none')
})

t.test('another model is not found', async t => {
  const { status, body } = await post(server, URL, { model: 'gpt', prompt: PROMPT })
  t.equal(status, 404)
  t.match(body.error, { param: 'model', code: 'model_not_found' })
})

t.test('harmless fields are ignored, and null is absent', async t => {
  const harmless = { user: 'me', metadata: { a: 1 }, service_tier: 'auto', store: false }
  const nothing = { suffix: null, logprobs: null, stop: null, n: null, top_k: null, stream: null }
  const options = { prompt: PROMPT, temperature: 0, max_tokens: 4 }
  const answer = await complete({ ...options, ...harmless, ...nothing })
  t.equal(answer.choices[0].text, (await complete(options)).choices[0].text)
})

t.test('a stream has the same parts', async t => {
  const options = { prompt: [PROMPT, 'She said'], max_tokens: 8, n: 2, seed: 7 }
  const further = { echo: true, logprobs: 2, stream_options: { include_usage: true } }
  const events = await postStream(server, URL, { ...options, ...further })
  const whole = await complete({ ...options, echo: true, logprobs: 2 })
  for (const event of events) checkAnswer('CreateCompletionResponse', event)
  const last = events.pop()
  t.strictSame(last.choices, [])
  t.match(last.usage, { total_tokens: whole.usage.total_tokens })
  t.ok(events.every(event => event.usage === null && event.id === last.id))
  for (const choice of whole.choices) {
    const pieces = events
      .flatMap(event => event.choices)
      .filter(({ index }) => index === choice.index)
    t.equal(pieces.map(({ text }) => text).join(''), choice.text)
    t.strictSame(
      pieces.map(({ finish_reason }) => finish_reason),
      [...Array(pieces.length - 1).fill(null), choice.finish_reason],
    )
    for (const list of ['tokens', 'token_logprobs', 'top_logprobs', 'text_offset'])
      t.strictSame(
        pieces.flatMap(({ logprobs }) => logprobs?.[list] ?? []),
        choice.logprobs[list],
        list,
      )
  }
  const plain = await postStream(server, URL, { ...options, n: 1 })
  t.ok(plain.every(event => !('usage' in event)))
})

t.test('the same seeds give the same texts among others', async t => {
  const body = (seed: number) => ({ prompt: PROMPT, max_tokens: 12, seed, n: 2 })
  const textsOf = async (seed: number) =>
    (await complete(body(seed))).choices.map((choice: { text: string }) => choice.text)
  const alone: string[][] = []
  for (let seed = 0; seed < 4; seed++) alone.push(await textsOf(seed))
  const together = await Promise.all(Array.from({ length: 16 }, (_, seed) => textsOf(seed)))
  t.strictSame(together.slice(0, 4), alone)
})
