import { setTimeout } from 'node:timers/promises'
import t from 'tap'
import type { GenerateChunk, GenerateResult } from '../../lib/generation/results.js'
import type { GenerationStream } from '../../lib/generation/stream.js'
import { continuing, EOS, fakeModel, pieces, tokenizer } from './fake-model.js'

const PROMPT = 'The old man'
const words = (text: string) => tokenizer.encode(text, { addSpecialTokens: false })

async function read(
  stream: GenerationStream,
): Promise<{ chunks: GenerateChunk[]; result: GenerateResult }> {
  const chunks: GenerateChunk[] = []
  for await (const chunk of stream) chunks.push(chunk)
  return { chunks, result: await stream.result }
}

t.test('the chunks are the result, in pieces', async t => {
  const { model } = fakeModel()
  const options = { maxNewTokens: 20, temperature: 1, seed: 4, logprobs: 2 }
  const { chunks, result } = await read(model.stream(PROMPT, options))
  const whole = await model.generate(PROMPT, options)
  t.ok(chunks.length > 5)
  t.equal(chunks.map(({ text }) => text).join(''), whole.text)
  t.same(
    chunks.flatMap(({ tokenIds }) => tokenIds),
    whole.tokenIds,
  )
  t.same(
    chunks.flatMap(({ logprobs }) => logprobs),
    whole.logprobs,
  )
  t.equal(result.text, whole.text)
  t.equal(result.finishReason, 'length')
})

t.test('never half a character', async t => {
  const bytes = pieces('<0xE2>', '<0x82>', '<0xAC>', '<0xF0>', '<0x9F>', '<0x98>', '<0x80>')
  const { model } = fakeModel({ script: continuing(PROMPT, [...bytes, EOS]) })
  const { chunks } = await read(model.stream(PROMPT))
  t.same(
    chunks.map(({ text }) => text),
    ['€', '😀', ''],
  )
  t.same(
    chunks.map(({ tokenIds }) => tokenIds.length),
    [3, 4, 1],
  )
})

t.test('never a part of a stop string', async t => {
  const { model } = fakeModel({ script: continuing(PROMPT, words('was here and there, as ever')) })
  for (const stop of [' here and', 'there,', 's h', ' as ever', 'e and there']) {
    const { chunks, result } = await read(model.stream(PROMPT, { stop }))
    const text = chunks.map(chunk => chunk.text).join('')
    t.equal(text, ' was here and there, as ever'.split(stop)[0])
    t.match(result, { finishReason: 'stop', text })
  }
})

t.test('leaving the loop stops the work at once', async t => {
  const { model, runner } = fakeModel({ delay: () => setTimeout(2) })
  const stream = model.stream(PROMPT, { maxNewTokens: 150, ignoreEos: true })
  for await (const chunk of stream) if (chunk.text) break
  t.equal((await stream.result).finishReason, 'abort')
  await setTimeout(10)
  const { length } = runner.steps
  t.ok(length < 20)
  await setTimeout(20)
  t.equal(runner.steps.length, length)
  t.same(await stream.next(), { done: true, value: undefined })
})

t.test('nothing is computed before the first read, nor after a return', async t => {
  const { model, runner } = fakeModel()
  const stream = model.stream(PROMPT)
  await setTimeout(5)
  t.equal(runner.steps.length, 0)
  await stream.return()
  t.same(await stream.next(), { done: true, value: undefined })
  t.equal(runner.steps.length, 0)
})

t.test('a read that waits ends when the stream is left', async t => {
  const { model } = fakeModel({ delay: () => setTimeout(50) })
  const stream = model.stream(PROMPT)
  const waiting = stream.next()
  await stream[Symbol.asyncDispose]()
  t.same(await waiting, { done: true, value: undefined })
  await model.close()
})

t.test('an abort ends the loop', async t => {
  const { model, runner } = fakeModel()
  const controller = new AbortController()
  const options = { signal: controller.signal, maxNewTokens: 150, ignoreEos: true }
  const stream = model.stream(PROMPT, options)
  let count = 0
  for await (const _ of stream) if (++count === 3) controller.abort()
  t.equal(count, 3)
  t.match(await stream.result, { finishReason: 'abort' })
  const { length } = runner.steps
  const { chunks, result } = await read(model.stream(PROMPT, options))
  t.same(chunks, [])
  t.equal(result.finishReason, 'abort')
  t.equal(runner.steps.length, length)
})

t.test('an error is thrown in the loop, after the chunks before it', async t => {
  const { model, runner } = fakeModel()
  const stream = model.stream(PROMPT, { maxNewTokens: 50, ignoreEos: true })
  let count = 0
  await t.rejects(
    async () => {
      for await (const _ of stream) if (++count === 2) runner.failures.push(new Error('broken'))
    },
    { message: 'broken' },
  )
  t.ok(count >= 2)
  await t.rejects(stream.result, { message: 'broken' })
  const closing = model.stream(PROMPT)
  const waiting = t.rejects(closing.next(), { code: 'ERR_CLOSED' })
  await model.close()
  await waiting
})

t.test('a stream that begins after the model is closed', async t => {
  const { model } = fakeModel()
  const stream = model.stream(PROMPT)
  await model.close()
  await t.rejects(stream.next(), { code: 'ERR_CLOSED' })
  await t.rejects(stream.result, { code: 'ERR_CLOSED' })
})

t.test('one prompt, one text', async t => {
  const { model } = fakeModel()
  t.throws(() => model.stream([PROMPT] as never), { name: 'TypeError' })
  t.throws(() => model.stream([[1, 2]] as never), { name: 'TypeError' })
  t.throws(() => model.stream(PROMPT, { numReturnSequences: 2 }), { name: 'RangeError' })
})

t.test('two streams and a batch at once', async t => {
  const { model } = fakeModel()
  const options = { maxNewTokens: 15, temperature: 1, seed: 9 }
  const [a, b, c] = await Promise.all([
    read(model.stream(PROMPT, options)),
    read(model.stream('She said', options)),
    model.generate([PROMPT, 'She said'], options),
  ])
  t.equal(a.result.text, c[0]!.text)
  t.equal(b.result.text, c[1]!.text)
})
