/** Calls of a model on several ranks: rank 0 takes them, and other ranks compute them. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { loadModel, type MoeppError } from '../../lib/index.js'
import { root } from '../support/golden.js'
import { type LocalGroup, loadGroup } from '../support/group.js'

const BOOKS = join(root, 'models', 'books-7m')
const folder = mkdtempSync(join(tmpdir(), 'moepp-group-'))
t.teardown(() => rmSync(folder, { recursive: true }))

/** Takes rank 0, so that the next text goes to rank 1. */
function occupy({ model }: LocalGroup) {
  return model.stream('It was', { maxNewTokens: 300, ignoreEos: true })
}

const codeOf = (error: unknown) => (error as MoeppError).code

t.test('a stream from another rank has its chunks', async t => {
  await using alone = await loadModel(BOOKS, { device: 'cpu', threads: 1 })
  await using group = await loadGroup(BOOKS, 2)
  const options = { maxNewTokens: 12, ignoreEos: true, logprobs: 2, routing: 'computed' as const }
  const read = async (model: typeof alone) => {
    const chunks = []
    const stream = model.stream('She said', options)
    for await (const chunk of stream) chunks.push(chunk)
    return { chunks, text: (await stream.result).text }
  }
  const first = occupy(group)
  await first.next()
  t.same(await read(group.model), await read(alone))
  t.ok(group.models[1]!.stats().generatedTokens >= 12, 'at rank 1')
  await first.return()
  t.equal((await first.result).finishReason, 'abort')
})

t.test('an abort reaches the rank of the text', async t => {
  await using group = await loadGroup(BOOKS, 2)
  const first = occupy(group)
  await first.next()
  const controller = new AbortController()
  const second = group.model.generate('She said', {
    maxNewTokens: 300,
    ignoreEos: true,
    signal: controller.signal,
  })
  while (group.models[1]!.stats().generatedTokens < 3) await new Promise(setImmediate)
  controller.abort()
  const { finishReason, tokenIds, usage } = await second
  t.equal(finishReason, 'abort')
  t.ok(tokenIds.length >= 3 && tokenIds.length < 300)
  t.equal(usage.generatedTokens, tokenIds.length)
  t.equal(group.models[1]!.stats().running, 0)
  const { kvPagesTotal } = group.models[1]!.stats()
  t.equal(group.model.stats().kvPagesTotal, 2 * kvPagesTotal, 'figures of both ranks')
  await first.return()
})

t.test('functions of the caller run, and their errors come through', async t => {
  await using group = await loadGroup(BOOKS, 2)
  const first = occupy(group)
  await first.next()
  const banned: number[] = []
  const logits = (row: Float32Array) => {
    banned.push(row.length)
    row[13] = -Infinity
  }
  let load: object | undefined
  const admit = (each: object) => {
    load = each
  }
  await group.model.generate('She said', { maxNewTokens: 4, logits, admit })
  t.ok(banned.length > 0)
  t.match(load, { sequences: 1, maxNewTokens: 4 })
  await t.rejects(group.model.generate('She said', { grammar: { regex: '(' } }), {
    code: 'ERR_BAD_GRAMMAR',
  })
  const { text } = await group.model.generate('She said', {
    grammar: { regex: ' (yes|no)[.]' },
    maxNewTokens: 20,
  })
  t.match(text, /^ ?(yes|no)\.$/)
  await first.return()
})

t.test('a prompt goes where its beginning is', async t => {
  await using group = await loadGroup(BOOKS, 2)
  const first = occupy(group)
  await first.next()
  const prompt = 'He had been in the town of '.repeat(12)
  const one = await group.model.generate(prompt, { maxNewTokens: 2 })
  t.equal(one.usage.cachedTokens, 0)
  await first.return()
  await first.result
  const two = await group.model.generate(`${prompt}London`, { maxNewTokens: 2 })
  t.ok(two.usage.cachedTokens >= 64, 'at rank 1, although both are idle')
})

t.test('other ranks than 0 take no calls, and close with rank 0', async t => {
  const group = await loadGroup(BOOKS, 2)
  const [leader, follower] = group.models
  t.match(leader!.parallel, { rank: 0, size: 2 })
  t.match(follower!.parallel, { rank: 1, size: 2 })
  await t.rejects(follower!.generate('She said', { maxNewTokens: 1 }), {
    code: 'ERR_UNSUPPORTED',
    message: /rank 1 of 2 .* rank 0/,
  })
  t.throws(() => follower!.stream('She said'), { code: 'ERR_UNSUPPORTED' })
  let isClosed = false
  const closed = follower!.close().then(() => {
    isClosed = true
  })
  await group.model.generate('She said', { maxNewTokens: 4 })
  t.notOk(isClosed, 'rank 0 has not closed')
  await leader!.close()
  await closed
  await t.rejects(leader!.generate('She said'), { code: 'ERR_CLOSED' })
})

t.test('texts of all ranks end with the model', async t => {
  const group = await loadGroup(BOOKS, 3)
  const all = group.model.generate(['It was', 'She said', 'He had'], {
    maxNewTokens: 900,
    ignoreEos: true,
  })
  while (group.models.some(model => model.stats().generatedTokens < 3))
    await new Promise(setImmediate)
  await Promise.all([t.rejects(all, { code: 'ERR_CLOSED' }), group.model.close()])
  await Promise.all(group.models.map(model => model.close()))
})

t.test('the failure of a rank ends the calls of all', async t => {
  const group = await loadGroup(BOOKS, 2)
  const all = group.model.generate(['It was', 'She said'], { maxNewTokens: 900, ignoreEos: true })
  while (group.models.some(model => model.stats().generatedTokens < 3))
    await new Promise(setImmediate)
  // A failure that no call waits for ends its process.
  const closed = t.rejects(group.models[1]!.close(), { code: 'ERR_PARALLEL' })
  group.groups[1]!.abort('it must')
  await t.rejects(all, { code: 'ERR_PARALLEL' })
  await t.rejects(group.model.generate('She said'), { code: 'ERR_PARALLEL' })
  await closed
  await group.model.close()
})

t.test('ranks that differ are told before they load', async t => {
  const failures = async (...args: Parameters<typeof loadGroup>) => {
    const error = await loadGroup(...args).then(
      () => t.fail('loaded'),
      error => error as AggregateError,
    )
    return error instanceof AggregateError ? error.errors : []
  }
  const options = await failures(BOOKS, 2, {}, rank => ({
    options: { dtype: rank === 1 ? 'int8' : 'bfloat16' },
  }))
  t.same(options.map(codeOf), ['ERR_PARALLEL', 'ERR_PARALLEL'])
  t.ok(
    options.some(({ message }) => /dtype: rank 0 has "bfloat16", rank 1 has "int8"/.test(message)),
  )
  const missing = await failures(BOOKS, 2, {}, rank => ({
    source: rank === 1 ? join(folder, 'nothing') : BOOKS,
  }))
  t.same(missing.map(codeOf).sort(), ['ERR_NOT_FOUND', 'ERR_PARALLEL'])
  const many = await failures(BOOKS, 9)
  t.ok(many.some(({ message }) => /8 FFN experts for 9 ranks/.test(message)))
})

t.test('a placement file says which ranks hold an expert', async t => {
  await using alone = await loadModel(BOOKS, { device: 'cpu', threads: 1 })
  const N = alone.config.ffnExperts
  const layers = Array.from({ length: alone.config.layers }, (_, layer) => ({
    layer,
    experts: Array.from({ length: N }, (_, n) => (n === 3 ? [0, 1] : [(n + layer) % 2])),
  }))
  const placement = join(folder, 'placement.json')
  const write = (content: unknown) => writeFileSync(placement, JSON.stringify(content))
  write({ ranks: 2, layers })
  {
    await using group = await loadGroup(BOOKS, 2, { placement })
    const options = { maxNewTokens: 8, seed: 1, ignoreEos: true }
    const prompts = ['It was', 'She said']
    const ids = async (model: typeof alone) =>
      (await model.generate(prompts, options)).map(({ tokenIds }) => tokenIds)
    t.same(await ids(group.model), await ids(alone))
  }
  const refused = async (content: unknown, message: RegExp) => {
    write(content)
    const error = await loadGroup(BOOKS, 2, { placement }).catch(error => error)
    // A rank that fails first may end another before that looks.
    const own = error.errors.find((each: unknown) => codeOf(each) === 'ERR_BAD_FILE')
    t.match(own, { message })
  }
  await refused({ ranks: 3, layers }, /is for 3 ranks, but the group has 2/)
  await refused({ ranks: 2, layers: layers.slice(1) }, /layer 0 has no experts, expected/)
  const broken = [{ layer: 0, experts: [[0, 2]] }]
  await refused({ ranks: 2, layers: broken }, /layers\[0\].experts\[0\]: expected different ranks/)
  const idle = [{ layer: 0, experts: [[0], [0]] }]
  await refused({ ranks: 2, layers: idle }, /rank 1 holds no expert/)
})
