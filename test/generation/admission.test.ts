/** The option `admit`: a call waits for it, with its prompts encoded and nothing computed. */
import { setImmediate } from 'node:timers/promises'
import t from 'tap'
import { type CallLoad, loadModel } from '../../lib/index.js'
import { chatCheckpoint } from '../support/chat-checkpoint.js'
import { fakeModel, tokenizer } from './fake-model.js'

const PROMPT = 'The old man'
const ids = tokenizer.encode(PROMPT)

/** An `admit` that records the loads, and waits to be let go. */
function gate() {
  const loads: CallLoad[] = []
  let open = (_: 'admit' | Error) => {}
  const admit = (load: CallLoad) => {
    loads.push(load)
    return new Promise<void>((resolve, reject) => {
      open = answer => (answer === 'admit' ? resolve() : reject(answer))
    })
  }
  const asked = async () => {
    while (loads.length === 0) await setImmediate()
  }
  return { admit, loads, asked, answer: (answer: 'admit' | Error) => open(answer) }
}

t.test('the load of all texts together; nothing is computed before', async t => {
  const { model, runner } = fakeModel()
  const { admit, loads, asked, answer } = gate()
  const prompts = [ids, [1, 2, 3]]
  const options = { admit, maxNewTokens: 6, numReturnSequences: 2, temperature: 1, ignoreEos: true }
  const call = model.generate(prompts, options)
  await asked()
  await setImmediate()
  t.equal(runner.steps.length, 0)
  answer('admit')
  t.equal((await call).length, 4)
  const promptTokens = 2 * (ids.length + 3)
  t.same(loads, [{ sequences: 4, promptTokens, maxNewTokens: 24 }])
})

t.test('the context bounds what can be generated', async t => {
  const loads: CallLoad[] = []
  const admit = (load: CallLoad) => void loads.push(load)
  const { model } = fakeModel({ contextLength: 10 })
  await model.generate([1, 2, 3, 4], { admit })
  await model.generate([1, 2, 3, 4], { admit, maxNewTokens: 0 })
  t.same(
    loads.map(load => load.maxNewTokens),
    [6, 0],
  )
})

t.test('what it throws is what the call rejects with, and the model goes on', async t => {
  const { model, runner } = fakeModel()
  const refusal = new Error('the queue is full')
  const refuse = () => {
    throw refusal
  }
  await t.rejects(model.generate(PROMPT, { admit: refuse }), refusal)
  await t.rejects(model.generate(PROMPT, { admit: () => Promise.reject(refusal) }), refusal)
  const grammar = { regex: 'a+' }
  await t.rejects(model.stream(PROMPT, { admit: refuse, grammar }).result, refusal)
  await t.rejects(model.stream(PROMPT, { admit: refuse }).next(), refusal)
  t.equal(runner.steps.length, 0)
  t.equal((await model.generate(PROMPT, { maxNewTokens: 2, ignoreEos: true })).tokenIds.length, 2)
  await model.close()
})

t.test('a stream waits with its first chunk', async t => {
  const { model, runner } = fakeModel()
  const { admit, asked, answer } = gate()
  const stream = model.stream(PROMPT, { admit, maxNewTokens: 3, ignoreEos: true })
  const first = stream.next()
  await asked()
  t.equal(runner.steps.length, 0)
  answer('admit')
  t.equal((await first).done, false)
  t.equal((await stream.result).tokenIds.length, 3)
})

t.test('an abort while it waits ends the call; nobody minds a refusal after it', async t => {
  const { model, runner } = fakeModel()
  for (const way of ['generate', 'stream'] as const) {
    const controller = new AbortController()
    const { admit, asked, answer } = gate()
    const options = { admit, signal: controller.signal }
    const stream = way === 'stream' ? model.stream(PROMPT, options) : undefined
    const call = stream?.result ?? model.generate(PROMPT, options)
    await asked()
    controller.abort()
    t.match(await call, { finishReason: 'abort', text: '', usage: { promptTokens: ids.length } })
    answer(new Error('too late'))
    await setImmediate()
  }
  const left = gate()
  const stream = model.stream(PROMPT, { admit: left.admit })
  const read = stream.next()
  await left.asked()
  await stream.return()
  t.equal((await read).done, true)
  t.equal((await stream.result).finishReason, 'abort')
  t.equal(runner.steps.length, 0)
})

t.test('a call that is aborted, or whose prompt is wrong, asks for nothing', async t => {
  const { model } = fakeModel()
  const admit = () => {
    t.fail('it was asked')
  }
  const signal = AbortSignal.abort()
  t.equal((await model.generate(PROMPT, { admit, signal })).finishReason, 'abort')
  await t.rejects(model.generate('', { admit }), { code: 'ERR_BAD_PROMPT' })
  await t.rejects(model.generate(PROMPT, { admit: 3 } as object), {
    name: 'TypeError',
    message: 'admit: expected a function, got 3',
  })
})

t.test('a model that is closed while a call waits', async t => {
  const { model } = fakeModel()
  const { admit, asked, answer } = gate()
  const call = model.generate(PROMPT, { admit })
  await asked()
  await model.close()
  answer('admit')
  await t.rejects(call, { code: 'ERR_CLOSED' })
})

t.test('chats', async t => {
  await using model = await loadModel(chatCheckpoint(t.testdir()), { device: 'cpu' })
  const messages = [{ role: 'user', content: 'Name a river.' }] as const
  const loads: CallLoad[] = []
  const admit = async (load: CallLoad) => void loads.push(load)
  const { usage } = await model.chat(messages, { admit, maxNewTokens: 2 })
  t.same(loads, [{ sequences: 1, promptTokens: usage.promptTokens, maxNewTokens: 2 }])
  const refuse = () => {
    throw new RangeError('no')
  }
  await t.rejects(model.chat(messages, { admit: refuse }), { name: 'RangeError' })
  await t.rejects(model.streamChat(messages, { admit: refuse }).next(), { name: 'RangeError' })
})
