/** States of texts in files, on a model whose pages know the text that they were computed after. */
import { existsSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { Step } from '../../lib/engine/runner.js'
import type { Model } from '../../lib/index.js'
import { type FakeModelOptions, fakeModel } from './fake-model.js'

const PROMPT = Array.from({ length: 21 }, (_, i) => 100 + 7 * i)
const greedy = { temperature: 0, maxNewTokens: 12, ignoreEos: true }

async function isolated(options: FakeModelOptions, prompt: readonly number[]) {
  const { model } = fakeModel(options)
  const { tokenIds } = await model.generate(prompt, greedy)
  await model.close()
  return tokenIds
}

/** Saves the state of a text in a model of its own. */
async function saved(path: string, tokens: readonly number[], options: FakeModelOptions = {}) {
  const { model } = fakeModel(options)
  const result = await model.saveState(path, tokens)
  await model.close()
  return result
}

function holdsNothing(t: Test, model: Model, cached?: number) {
  const { kvPagesUsed, kvPagesShared, kvPagesCached, running, waiting } = model.stats()
  t.same([kvPagesUsed, kvPagesShared, running, waiting], [0, 0, 0, 0])
  if (cached !== undefined) t.equal(kvPagesCached, cached)
}

t.test('a text goes on from a file as it does without', async t => {
  const folder = t.testdir()
  for (const length of [1, 3, 4, 5, 8, 21]) {
    const path = join(folder, `${length}.kv`)
    const tokens = PROMPT.slice(0, length)
    const { bytes, ...result } = await saved(path, tokens)
    t.same(result, { tokens: length, cachedTokens: 0 })
    t.equal(bytes, readFileSync(path).length)

    const { model, runner } = fakeModel()
    t.same(await model.loadState(path), { tokens: length, tokenIds: tokens })
    t.equal(runner.steps.length, 0)
    holdsNothing(t, model, Math.ceil(length / runner.pageSize))
    for (const [prompt, cachedTokens] of [
      [[...tokens, 5, 6, 7], length],
      [tokens, length - 1],
    ] as const) {
      const { tokenIds, usage } = await model.generate(prompt, greedy)
      t.same(tokenIds, await isolated({}, prompt))
      t.equal(usage.cachedTokens, cachedTokens)
    }
    await model.close()
  }
  t.same(readdirSync(folder).length, 6, 'nothing else is left in the folder')
})

t.test('a conversation is saved from the cache, and what it lacks is computed', async t => {
  const path = join(t.testdir(), 'state.kv')
  const { model, runner } = fakeModel()
  const { tokenIds } = await model.generate(PROMPT, greedy)
  const text = [...PROMPT, ...tokenIds]
  const before = runner.computedTokens
  const result = await model.saveState(path, text)
  t.same([result.tokens, result.cachedTokens], [text.length, text.length - 1])
  t.equal(runner.computedTokens, before + 1, 'the last token alone was not computed')
  holdsNothing(t, model)
  const more = await model.saveState(path, [...text, 8, 9])
  t.same([more.tokens, more.cachedTokens], [text.length + 2, text.length])
  const state = await model.loadState(path)
  t.same(state.tokenIds, [...text, 8, 9], 'the newer file has replaced the older')
  holdsNothing(t, model, Math.ceil((text.length + 2) / 4))

  const words = await model.saveState(path, 'The old man')
  t.same((await model.loadState(path)).tokenIds, model.tokenizer.encode('The old man'))
  t.equal(words.tokens, model.tokenizer.encode('The old man').length)
  await model.saveState(path, 'The old man', { addSpecialTokens: false })
  t.equal((await model.loadState(path)).tokens, words.tokens - 1)
  await model.close()
})

t.test('a file holds nothing of other texts', async t => {
  const folder = t.testdir()
  await saved(join(folder, 'fresh.kv'), PROMPT)
  const { model } = fakeModel({ pages: 8 })
  await model.generate(Array(31).fill(77), { maxNewTokens: 1 })
  t.equal(model.stats().kvPagesCached, 8, 'all pages are written')
  await model.saveState(join(folder, 'used.kv'), PROMPT)
  t.ok(readFileSync(join(folder, 'fresh.kv')).equals(readFileSync(join(folder, 'used.kv'))))
  await model.close()
})

t.test('pages that the cache has are used, and none is there twice', async t => {
  const path = join(t.testdir(), 'state.kv')
  await saved(path, PROMPT)
  for (const known of [PROMPT, PROMPT.slice(0, 9), [...PROMPT, 1, 2, 3, 4], [...PROMPT, 3]]) {
    const { model, runner } = fakeModel()
    await model.saveState(`${path}2`, known)
    await model.loadState(path)
    await model.loadState(path)
    const { kvPagesCached } = model.stats()
    // A page of a text's first tokens may stay beside the page that goes on.
    const least = Math.ceil(Math.max(known.length, PROMPT.length) / runner.pageSize)
    t.ok(kvPagesCached - least <= 1, `${kvPagesCached} pages for ${known.length} tokens`)
    holdsNothing(t, model)
    const { tokenIds } = await model.generate([...PROMPT, 9], greedy)
    t.same(tokenIds, await isolated({}, [...PROMPT, 9]))
    await model.close()
  }
})

t.test('keys that depend on the length of the text', async t => {
  const options = { sharedVariant: 10 }
  const path = join(t.testdir(), 'state.kv')
  for (const [tokens, more, cachedTokens] of [
    [PROMPT, [], 20],
    [PROMPT, [5], 0],
    [PROMPT.slice(0, 6), [5, 6], 6],
    [PROMPT.slice(0, 6), [5, 6, 7, 8, 9], 0],
  ] as const) {
    await saved(path, tokens, options)
    const { model } = fakeModel(options)
    await model.loadState(path)
    const { tokenIds, usage } = await model.generate([...tokens, ...more], greedy)
    t.equal(usage.cachedTokens, cachedTokens)
    t.same(tokenIds, await isolated(options, [...tokens, ...more]))
    await model.close()
  }
})

t.test('a file that does not fit in the cache', async t => {
  const path = join(t.testdir(), 'state.kv')
  await saved(path, PROMPT)
  const small = fakeModel({ pages: 5 }).model
  await t.rejects(small.loadState(path), {
    code: 'ERR_OUT_OF_MEMORY',
    message: /has 21 tokens, this model holds 20: raise contextLength or kvCacheTokens/,
  })
  await small.generate(Array(20).fill(3), { maxNewTokens: 1 })
  await small.close()

  let goOn = () => {}
  const refused = new Promise<void>(resolve => {
    goOn = resolve
  })
  // The call holds its pages for as long as the file is read.
  const delay = ({ positions }: Step) => (positions[0] === 0 ? Promise.resolve() : refused)
  const { model } = fakeModel({ pages: 8, delay })
  const running = model.stream([1, 2, 3, 4, 5, 6, 7, 8, 9], { ...greedy, maxNewTokens: 10 })
  const tokens: number[] = []
  for await (const { tokenIds } of running) {
    if (tokens.length === 0) {
      await t.rejects(model.loadState(path), {
        code: 'ERR_OUT_OF_MEMORY',
        message: /21 tokens, the KV cache has room for \d+ beside those of running calls/,
      })
      goOn()
    }
    tokens.push(...tokenIds)
  }
  t.same(tokens, (await isolated({}, [1, 2, 3, 4, 5, 6, 7, 8, 9])).slice(0, 10))
  await model.loadState(path)
  const { usage } = await model.generate([...PROMPT, 1], { maxNewTokens: 1 })
  t.equal(usage.cachedTokens, 21, 'pages that nobody uses make room')
  await model.close()
})

t.test('beside other calls, on a cache that is too small for all', async t => {
  const folder = t.testdir()
  const path = join(folder, 'state.kv')
  const long = [...PROMPT, ...PROMPT.map(token => token + 1)]
  await saved(path, long)
  const prompts = Array.from({ length: 10 }, (_, i) =>
    i % 2 === 0 ? [...long.slice(0, 5 * i), i] : PROMPT.map(token => token + i),
  )
  const expected = await Promise.all(prompts.map(prompt => isolated({}, prompt)))
  const { model } = fakeModel({ pages: 18 })
  let loaded = 0
  const files = async (i: number) => {
    for (let n = 0; n < 4; n++) {
      await model.saveState(join(folder, `${i}.kv`), [...long.slice(0, 10 + n), i])
      await model.loadState(path).then(
        () => loaded++,
        error => t.equal(error.code, 'ERR_OUT_OF_MEMORY'),
      )
    }
  }
  const [results] = await Promise.all([model.generate(prompts, greedy), ...[1, 2, 3].map(files)])
  t.same(
    results.map(({ tokenIds }) => tokenIds),
    expected,
  )
  t.ok(model.stats().preemptions > 0, 'some were preempted')
  t.ok(loaded > 0)
  holdsNothing(t, model)
  await model.loadState(path)
  for (const i of [1, 2, 3]) {
    t.same((await model.loadState(join(folder, `${i}.kv`))).tokenIds, [...long.slice(0, 13), i])
    const prompt = [...long.slice(0, 13), i, 4]
    t.same((await model.generate(prompt, greedy)).tokenIds, await isolated({}, prompt))
  }
  await model.close()
})

t.test('an abort leaves nothing behind', async t => {
  const folder = t.testdir()
  const path = join(folder, 'state.kv')
  const { model, runner } = fakeModel({ maxStepTokens: 4 })
  const gone = AbortSignal.abort(new Error('no more'))
  const isAborted = { code: 'ERR_ABORTED', cause: /no more/ }
  await t.rejects(model.saveState(path, PROMPT, { signal: gone }), isAborted)
  await t.rejects(model.saveState(path, 'text', { signal: gone }), isAborted)
  t.equal(runner.steps.length, 0)
  // During the computation, and while pages are written.
  const { readPage } = runner
  for (const during of ['run', 'readPage'] as const) {
    const controller = new AbortController()
    const abort = () => controller.abort(new Error('no more'))
    if (during === 'run') setImmediate(abort)
    else {
      runner.readPage = (layer, page) => {
        abort()
        return readPage.call(runner, layer, page)
      }
    }
    await t.rejects(model.saveState(path, PROMPT, { signal: controller.signal }), isAborted)
    t.same(readdirSync(folder), [])
    holdsNothing(t, model)
  }
  runner.readPage = readPage
  await model.saveState(path, PROMPT)

  const { model: other, runner: otherRunner } = fakeModel()
  await t.rejects(other.loadState(path, { signal: gone }), isAborted)
  const controller = new AbortController()
  const { writePage } = otherRunner
  otherRunner.writePage = (layer, page, values) => {
    controller.abort(new Error('no more'))
    return writePage.call(otherRunner, layer, page, values)
  }
  await t.rejects(other.loadState(path, { signal: controller.signal }), isAborted)
  holdsNothing(t, other, 0)
  t.equal((await other.generate(PROMPT, greedy)).usage.cachedTokens, 0)
  await Promise.all([model.close(), other.close()])
})

t.test('a model that is closed', async t => {
  const folder = t.testdir()
  const path = join(folder, 'state.kv')
  await saved(path, PROMPT)
  for (const call of ['saveState', 'loadState'] as const) {
    for (const when of ['compute', 'pages'] as const) {
      const { model, runner } = fakeModel({ maxStepTokens: 4 })
      const { readPage, writePage } = runner
      const running =
        call === 'saveState' ? model.saveState(`${path}2`, PROMPT) : model.loadState(path)
      let closing: Promise<void> | undefined
      if (when === 'compute') closing = model.close()
      else {
        runner.readPage = (layer, page) => {
          closing = model.close()
          return readPage.call(runner, layer, page)
        }
        runner.writePage = (layer, page, values) => {
          closing = model.close()
          return writePage.call(runner, layer, page, values)
        }
      }
      await running.then(
        // The last pages were read or written already.
        () => t.equal(when, 'pages'),
        error => t.equal(error.code, 'ERR_CLOSED'),
      )
      await closing
      t.ok(runner.closed)
      holdsNothing(t, model)
      t.notOk(readdirSync(folder).some(name => name.startsWith('.')))
      await t.rejects(model.saveState(path, PROMPT), { code: 'ERR_CLOSED' })
      await t.rejects(model.loadState(path), { code: 'ERR_CLOSED' })
    }
  }
})

t.test('failures of a step or of a page end the call', async t => {
  const folder = t.testdir()
  const path = join(folder, 'state.kv')
  const { model, runner } = fakeModel()
  runner.failures = [new Error('lost')]
  await t.rejects(model.saveState(path, PROMPT), /lost/)
  const { readPage } = runner
  runner.readPage = () => {
    throw new Error('lost')
  }
  await t.rejects(model.saveState(path, PROMPT), /lost/)
  runner.readPage = (layer, page) => readPage.call(runner, layer, page).fill(Number.NaN)
  await t.rejects(model.saveState(path, PROMPT), {
    code: 'ERR_DEVICE',
    message: /layer 0 has keys or values that are not finite/,
  })
  runner.readPage = readPage
  t.same(readdirSync(folder), [])
  holdsNothing(t, model)
  t.equal((await model.saveState(path, PROMPT)).tokens, 21)
  await model.close()
})

t.test('wrong arguments, and places that cannot be written', async t => {
  const folder = t.testdir({ directory: {} })
  const { model } = fakeModel()
  const path = join(folder, 'state.kv')
  await t.rejects(model.saveState('', PROMPT), { name: 'RangeError' })
  await t.rejects(model.saveState(5 as never, PROMPT), { name: 'TypeError' })
  await t.rejects(model.loadState(undefined as never), { name: 'TypeError' })
  await t.rejects(model.saveState(path, []), { code: 'ERR_BAD_PROMPT' })
  await t.rejects(model.saveState(path, ''), { code: 'ERR_BAD_PROMPT' })
  await t.rejects(model.saveState(path, [-1]), { name: 'RangeError' })
  await t.rejects(model.saveState(path, Array(300).fill(1)), { code: 'ERR_BAD_PROMPT' })
  await t.rejects(model.saveState(path, PROMPT, { maxNewTokens: 1 } as never), {
    message: /unknown option "maxNewTokens"/,
  })
  await t.rejects(model.loadState(path, { signal: 1 } as never), { name: 'TypeError' })
  t.same(readdirSync(folder), ['directory'])
  for (const place of ['directory', 'missing/state.kv', 'a\0b']) {
    await t.rejects(model.saveState(join(folder, place), PROMPT), { code: 'ERR_CANNOT_WRITE' })
  }
  t.same(readdirSync(folder), ['directory'])
  if (existsSync('/dev/full'))
    await t.rejects(model.saveState('/dev/full', PROMPT), { code: 'ERR_CANNOT_WRITE' })

  // A link's target is replaced, and what a killed process left is removed.
  symlinkSync('state.kv', join(folder, 'link'))
  await model.saveState(path, [1])
  const dead = join(folder, '.state.kv.moepp-new-')
  writeFileSync(`${dead}elsewhere-1-00000000`, '')
  await model.saveState(join(folder, 'link'), PROMPT)
  t.equal((await model.loadState(path)).tokens, 21)
  t.same(readdirSync(folder).sort(), [
    '.state.kv.moepp-new-elsewhere-1-00000000',
    'directory',
    'link',
    'state.kv',
  ])
  await model.close()
})
