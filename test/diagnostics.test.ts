/** Events that subscribers of diagnostics channels receive. */
import * as diagnostics from 'node:diagnostics_channel'
import { join } from 'node:path'
import t from 'tap'
import type { CallTrace, LoadTrace } from '../lib/generation/diagnostics.js'
import { loadModel } from '../lib/index.js'
import { fakeModel, tokenizer } from './generation/fake-model.js'
import { root } from './support/golden.js'

const PROMPT = 'The old man'
const promptTokens = tokenizer.encode(PROMPT).length
const books = join(root, 'models', 'books-7m')

interface Heard {
  readonly event: string
  readonly trace: Record<string, unknown>
}

/** Everything that the channels of `kind` carry while `body` runs; traces as they then were. */
async function listen(kind: string, body: () => Promise<unknown>): Promise<Heard[]> {
  const heard: Heard[] = []
  const events = ['start', 'end', 'asyncStart', 'asyncEnd', 'error'] as const
  const handlers = Object.fromEntries(
    events.map(event => [
      event,
      (trace: object) => void heard.push({ event, trace: { ...trace } }),
    ]),
  ) as Record<(typeof events)[number], (trace: object) => void>
  const channel = diagnostics.tracingChannel(`moepp:${kind}`)
  channel.subscribe(handlers as never)
  try {
    await body()
  } finally {
    channel.unsubscribe(handlers as never)
  }
  return heard
}

t.test('generate: start and end, with counts, timings and reasons', async t => {
  const { model } = fakeModel()
  const heard = await listen('generate', () =>
    model.generate([PROMPT, PROMPT], { maxNewTokens: 4, numReturnSequences: 2 }),
  )
  t.same(
    heard.map(({ event }) => event),
    ['start', 'end', 'asyncStart', 'asyncEnd'],
  )
  t.same(heard[0]!.trace, {
    call: 'generate',
    device: 'fake',
    sequences: 4,
    promptTokens: 4 * promptTokens,
  })
  const end = heard.at(-1)!.trace as unknown as CallTrace
  t.ok(end.ms! > 0)
  t.equal(end.results!.length, 4)
  for (const { usage, timings, finishReason } of end.results!) {
    t.equal(finishReason, 'length')
    t.match(usage, { promptTokens, generatedTokens: 4 })
    t.ok(timings.decodeMs >= 0)
  }
})

t.test('stream, forward, score', async t => {
  const { model } = fakeModel()
  const streamed = await listen('generate', async () => {
    for await (const _ of model.stream(PROMPT, { maxNewTokens: 3 }));
  })
  t.match(streamed.at(-1), {
    event: 'asyncEnd',
    trace: { call: 'stream', results: [{ finishReason: 'length' }] },
  })
  const left = await listen('generate', async () => {
    const stream = model.stream(PROMPT, { ignoreEos: true, maxNewTokens: 100 })
    for await (const _ of stream) break
    await stream.result
  })
  t.match(left.at(-1), { trace: { results: [{ finishReason: 'abort' }] } })
  const forward = await listen('forward', () => model.forward([[1, 2, 3], [4]]))
  t.match(forward.at(-1), {
    event: 'asyncEnd',
    trace: { call: 'forward', sequences: 2, promptTokens: 4, ms: Number },
  })
  const score = await listen('score', () => model.score([1, 2], [3]))
  t.match(score.at(-1), { trace: { call: 'score', sequences: 1, promptTokens: 3 } })
})

t.test('errors', async t => {
  const { model, runner } = fakeModel()
  const broken = new Error('broken')
  runner.failures.push(broken)
  const heard = await listen('generate', () => t.rejects(model.generate(PROMPT), broken))
  t.same(
    heard.map(({ event }) => event),
    ['start', 'end', 'error', 'asyncStart', 'asyncEnd'],
  )
  t.equal(heard.at(-1)!.trace.error, broken)
  t.ok((heard.at(-1)!.trace.ms as number) > 0)
  const stream = model.stream(PROMPT)
  await model.close()
  const closed = await listen('generate', () => t.rejects(stream.next(), { code: 'ERR_CLOSED' }))
  t.match(closed.at(-1)!.trace.error, { code: 'ERR_CLOSED' })
})

t.test('load', async t => {
  const heard = await listen('load', async () => {
    await using model = await loadModel(books, { device: 'cpu', token: 'hf_secret' })
    t.ok(model.device.name)
  })
  t.same(heard[0]!.trace, { source: books, requested: { device: 'cpu', dtype: 'auto' } })
  t.match(heard.at(-1)!.trace, { device: 'cpu', dtype: 'bfloat16', ms: Number })
  const failed = await listen('load', () =>
    t.rejects(loadModel(join(root, 'native'), { token: 'hf_secret' })),
  )
  const { error } = failed.at(-1)!.trace as unknown as LoadTrace
  t.match(error, { code: 'ERR_NOT_FOUND' })
  const url = await listen('load', () => t.rejects(loadModel('https://me:pass@host.invalid/x')))
  t.equal(url[0]!.trace.source, 'https://host.invalid/x')
  t.notMatch(JSON.stringify([heard, failed]), /hf_secret/)
})

t.test('no text, no ids', async t => {
  const { model } = fakeModel()
  let text = ''
  let tokenIds: number[] = []
  const heard = await listen('generate', async () => {
    ;({ text, tokenIds } = await model.generate(PROMPT, { maxNewTokens: 12, logprobs: 2 }))
  })
  const all = JSON.stringify(heard)
  t.notMatch(all, 'old man')
  t.not(text, '')
  t.notOk(all.includes(JSON.stringify(text).slice(1, -1)))
  t.notOk(all.includes(tokenIds.join()))
  const names = new Set<string>()
  JSON.stringify(heard, (name, value) => {
    names.add(name)
    return value
  })
  for (const name of ['text', 'tokenIds', 'logprobs']) t.notOk(names.has(name), name)
})

t.test('without subscribers nothing is made', async t => {
  const { model } = fakeModel()
  let reads = 0
  // The trace would ask for it.
  Object.defineProperty(model.device, 'name', { get: () => ++reads && 'x' })
  await model.generate(PROMPT, { maxNewTokens: 2 })
  t.equal(reads, 0)
  await listen('generate', () => model.generate(PROMPT, { maxNewTokens: 2 }))
  t.equal(reads, 1)
})
