import t from 'tap'
import { loadBinding } from '../lib/addon/binding.js'
import {
  type GenerateOptions,
  type Isa,
  type LoadOptions,
  resolveGenerateOptions,
  resolveLoadOptions,
} from '../lib/options/generate.js'

const context = { vocabSize: 100 }
const resolve = (call: object, checkpoint: object = {}) =>
  resolveGenerateOptions(call, checkpoint, context)

t.test('defaults are those of Hugging Face', async t => {
  const { seed, ...rest } = resolve({})
  t.ok(Number.isSafeInteger(seed))
  t.same(rest, {
    maxNewTokens: 256,
    minNewTokens: 0,
    doSample: false,
    temperature: 1,
    topK: 50,
    topP: 1,
    minP: 0,
    typicalP: 1,
    repetitionPenalty: 1,
    frequencyPenalty: 0,
    presencePenalty: 0,
    noRepeatNgramSize: 0,
    logitBias: new Map(),
    stop: [],
    stopTokenIds: [],
    ignoreEos: false,
    logprobs: undefined,
    promptLogprobs: undefined,
    numReturnSequences: 1,
    addSpecialTokens: undefined,
    splitSpecialTokens: false,
    signal: undefined,
    admit: undefined,
    speculate: undefined,
    routing: false,
    logits: undefined,
  })
})

t.test("the call's options come before the checkpoint's, those before the defaults", async t => {
  const options = resolve(
    { topK: 5, topP: undefined },
    { topK: 9, topP: 0.5, repetitionPenalty: 1.1 },
  )
  t.match(options, { topK: 5, topP: 0.5, repetitionPenalty: 1.1, minP: 0 })
})

t.test('greedy unless doSample or a temperature is given', async t => {
  const table: [call: object, checkpoint: object, doSample: boolean, temperature: number][] = [
    [{}, {}, false, 1],
    [{ temperature: 0.7 }, {}, true, 0.7],
    [{ temperature: 0 }, {}, false, 1],
    [{ temperature: 0, doSample: true }, {}, false, 1],
    [{ temperature: 0.7, doSample: false }, {}, false, 1],
    [{ doSample: true }, {}, true, 1],
    [{ topP: 0.9 }, {}, false, 1],
    [{}, { doSample: true, temperature: 0.6 }, true, 0.6],
    [{}, { temperature: 0.6 }, false, 1],
    [{}, { doSample: true, temperature: 0 }, false, 1],
    [{ doSample: true }, { temperature: 0.6 }, true, 0.6],
    [{ doSample: true }, { temperature: 0 }, true, 1],
    [{ doSample: false }, { doSample: true }, false, 1],
    [{ temperature: 0 }, { doSample: true, temperature: 0.6 }, false, 1],
    [{ temperature: 0.9 }, { doSample: false }, true, 0.9],
  ]
  for (const [call, checkpoint, doSample, temperature] of table) {
    const name = `${JSON.stringify(call)} over ${JSON.stringify(checkpoint)}`
    t.match(resolve(call, checkpoint), { doSample, temperature }, name)
  }
})

t.test('the resolved record is frozen and apart from what was passed', async t => {
  const call = {
    stop: ['a', 'b', 'a'],
    stopTokenIds: [3, 3, 4],
    logitBias: { 5: 1, 6: -Infinity },
    seed: -5,
  }
  const options = resolve(call)
  t.ok(
    Object.isFrozen(options) &&
      Object.isFrozen(options.stop) &&
      Object.isFrozen(options.stopTokenIds),
  )
  call.stop.push('c')
  t.same(options.stop, ['a', 'b'])
  t.same(options.stopTokenIds, [3, 4])
  t.same(
    [...options.logitBias],
    [
      [5, 1],
      [6, -Infinity],
    ],
  )
  t.equal(options.seed, -5)
  t.same(resolve({ stop: 'x' }).stop, ['x'])
  const biases = new Map([[99, 2]])
  const { logitBias } = resolve({ logitBias: biases })
  biases.set(98, 3)
  t.same([...logitBias], [[99, 2]], 'a copy')
  t.equal(resolve({ logitBias }).logitBias, logitBias, 'a copy of ours is shared')
  t.throws(
    () => resolveGenerateOptions({ logitBias }, {}, { vocabSize: 99 }),
    RangeError,
    'but not with another model',
  )
  const { signal } = new AbortController()
  t.equal(resolve({ signal }).signal, signal)
})

t.test('minNewTokens fits into maxNewTokens', async t => {
  t.throws(() => resolve({ minNewTokens: 5, maxNewTokens: 4 }), {
    name: 'RangeError',
    message: 'minNewTokens: expected at most maxNewTokens, which is 4, got 5',
  })
  t.match(resolve({ maxNewTokens: 4 }, { minNewTokens: 5 }), { minNewTokens: 4 })
  t.match(resolve({ maxNewTokens: 0 }, { minNewTokens: 5 }), { maxNewTokens: 0, minNewTokens: 0 })
})

t.test('wrong values are errors that say the option, expected and got', async t => {
  const table: [options: unknown, name: 'TypeError' | 'RangeError', message: string][] = [
    [null, 'TypeError', 'options: expected an object, got null'],
    [[], 'TypeError', 'options: expected an object, got []'],
    ['x', 'TypeError', 'options: expected an object, got "x"'],
    [{ temprature: 1 }, 'TypeError', 'unknown option "temprature": did you mean temperature?'],
    [
      { max_new_tokens: 1 },
      'TypeError',
      'unknown option "max_new_tokens": did you mean maxNewTokens?',
    ],
    [{ top_p: undefined }, 'TypeError', 'unknown option "top_p": did you mean topP?'],
    [{ maxNewTokens: -1 }, 'RangeError', 'maxNewTokens: expected an integer >= 0, got -1'],
    [{ maxNewTokens: '9' }, 'TypeError', 'maxNewTokens: expected an integer >= 0, got "9"'],
    [{ maxNewTokens: null }, 'TypeError', 'maxNewTokens: expected an integer >= 0, got null'],
    [{ minNewTokens: 1.5 }, 'RangeError', 'minNewTokens: expected an integer >= 0, got 1.5'],
    [{ doSample: 1 }, 'TypeError', 'doSample: expected true or false, got 1'],
    [
      { temperature: Number.NaN },
      'RangeError',
      'temperature: expected a finite number >= 0, got NaN',
    ],
    [
      { temperature: Infinity },
      'RangeError',
      'temperature: expected a finite number >= 0, got Infinity',
    ],
    [{ temperature: -1 }, 'RangeError', 'temperature: expected a finite number >= 0, got -1'],
    [{ temperature: {} }, 'TypeError', 'temperature: expected a finite number >= 0, got an object'],
    [{ topK: -1 }, 'RangeError', 'topK: expected an integer >= 0, got -1'],
    [{ topK: 5n }, 'TypeError', 'topK: expected an integer >= 0, got a bigint'],
    [{ topP: 1.01 }, 'RangeError', 'topP: expected a number >= 0 and <= 1, got 1.01'],
    [{ minP: -0.1 }, 'RangeError', 'minP: expected a number >= 0 and <= 1, got -0.1'],
    [{ typicalP: 0 }, 'RangeError', 'typicalP: expected a number > 0 and <= 1, got 0'],
    [
      { repetitionPenalty: 0 },
      'RangeError',
      'repetitionPenalty: expected a finite number > 0, got 0',
    ],
    [
      { frequencyPenalty: 2.1 },
      'RangeError',
      'frequencyPenalty: expected a number >= -2 and <= 2, got 2.1',
    ],
    [
      { presencePenalty: -3 },
      'RangeError',
      'presencePenalty: expected a number >= -2 and <= 2, got -3',
    ],
    [
      { noRepeatNgramSize: -2 },
      'RangeError',
      'noRepeatNgramSize: expected an integer >= 0, got -2',
    ],
    [{ seed: 2 ** 53 }, 'RangeError', 'seed: expected a safe integer, got 9007199254740992'],
    [{ seed: 0.5 }, 'RangeError', 'seed: expected a safe integer, got 0.5'],
    [{ logprobs: 101 }, 'RangeError', 'logprobs: expected an integer from 0 to 100, got 101'],
    [
      { promptLogprobs: 101 },
      'RangeError',
      'promptLogprobs: expected an integer from 0 to 100, got 101',
    ],
    [{ logprobs: true }, 'TypeError', 'logprobs: expected an integer from 0 to 100, got true'],
    [
      { numReturnSequences: 0 },
      'RangeError',
      'numReturnSequences: expected an integer >= 1, got 0',
    ],
    [{ addSpecialTokens: 'no' }, 'TypeError', 'addSpecialTokens: expected true or false, got "no"'],
    [{ routing: 1 }, 'TypeError', "routing: expected true, false, 'computed' or 'counts', got 1"],
    [
      { routing: 'all' },
      'RangeError',
      "routing: expected true, false, 'computed' or 'counts', got \"all\"",
    ],
    [{ speculate: 8 }, 'TypeError', 'speculate: expected true, false or an object, got 8'],
    [
      { speculate: { ngram: 0 } },
      'RangeError',
      'speculate.ngram: expected an integer from 1 to 32, got 0',
    ],
    [
      { speculate: { tokens: '8' } },
      'TypeError',
      'speculate.tokens: expected an integer from 1 to 64, got "8"',
    ],
    [{ speculate: { token: 8 } }, 'TypeError', 'unknown option "token": did you mean tokens?'],
    [{ signal: {} }, 'TypeError', 'signal: expected an AbortSignal, got an object'],
    [{ stop: '' }, 'RangeError', 'stop: expected a string that is not empty, got ""'],
    [{ stop: ['a', ''] }, 'RangeError', 'stop[1]: expected a string that is not empty, got ""'],
    [{ stop: [7] }, 'TypeError', 'stop[0]: expected a string that is not empty, got 7'],
    [{ stop: 7 }, 'TypeError', 'stop: expected a string or an array of strings, got 7'],
    [{ stopTokenIds: 7 }, 'TypeError', 'stopTokenIds: expected an array of ids, got 7'],
    [
      { stopTokenIds: [1, 100] },
      'RangeError',
      'stopTokenIds[1]: expected an integer from 0 to 99, got 100',
    ],
    [
      { logitBias: [1] },
      'TypeError',
      'logitBias: expected an object or Map from token id to number, got [1]',
    ],
    [
      { logitBias: { 100: 1 } },
      'RangeError',
      'logitBias: token id: expected an integer from 0 to 99, got 100',
    ],
    [
      { logitBias: { '1e1': 1 } },
      'TypeError',
      'logitBias: token id: expected an integer from 0 to 99, got "1e1"',
    ],
    [
      { logitBias: new Map([[-1, 1]]) },
      'RangeError',
      'logitBias: token id: expected an integer from 0 to 99, got -1',
    ],
    [
      { logitBias: { 3: 101 } },
      'RangeError',
      'logitBias[3]: expected a number >= -100 and <= 100, or -Infinity, got 101',
    ],
    [
      { logitBias: { 3: 'a' } },
      'TypeError',
      'logitBias[3]: expected a number >= -100 and <= 100, or -Infinity, got "a"',
    ],
  ]
  for (const [options, name, message] of table) {
    t.throws(() => resolve(options as GenerateOptions), { name, message }, message)
  }
  t.throws(() => resolve({ zzz: 1 }), {
    name: 'TypeError',
    message: /^unknown option "zzz": expected one of maxNewTokens, /,
  })
  t.throws(() => resolve({ constructor: 1 }), { name: 'TypeError' })
})

t.test("a wrong value of the checkpoint's is ERR_BAD_CONFIG", async t => {
  t.throws(() => resolve({}, { topP: 2 }), {
    code: 'ERR_BAD_CONFIG',
    message: 'generation_config.json: topP: expected a number >= 0 and <= 1, got 2',
  })
})

t.test('load options: defaults and accepted values', async t => {
  t.same(resolveLoadOptions({}), {
    device: 'auto',
    dtype: 'auto',
    activationDtype: 'auto',
    kvCacheDtype: 'auto',
    isa: 'auto',
    memoryCheck: true,
    parallelDeadlineMs: 30_000,
  })
  t.equal(resolveLoadOptions({ device: 'cuda' }).device, 'cuda:0')
  t.equal(resolveLoadOptions({ device: 'cuda:3' }).device, 'cuda:3')
  t.equal(resolveLoadOptions({ kvCacheDtype: 'auto' }).kvCacheDtype, 'auto')
  const given: LoadOptions = {
    device: 'cpu',
    dtype: 'bfloat16',
    activationDtype: 'bfloat16',
    kvCacheDtype: 'bfloat16',
    contextLength: 128,
    isa: 'scalar',
    threads: 2,
    kvCacheTokens: 4096,
    memoryCheck: false,
    parallel: 'mpi',
    placement: 'placement.json',
    parallelDeadlineMs: 5000,
    onProgress: () => {},
    signal: new AbortController().signal,
    revision: 'main',
    token: 'secret',
    endpoint: 'https://example.org',
    cacheDir: 'cache',
  }
  const options = resolveLoadOptions(given)
  t.same(options, given)
  t.ok(Object.isFrozen(options))
})

t.test('naming an instruction set asks for the CPU', async t => {
  for (const isa of loadBinding().processor().isas as Isa[]) {
    for (const device of [undefined, 'auto', 'cpu'] as const)
      t.match(resolveLoadOptions({ isa, ...(device && { device }) }), { isa, device: 'cpu' })
  }
  t.match(resolveLoadOptions({ isa: 'auto', device: 'cuda' }), { isa: 'auto', device: 'cuda:0' })
})

t.test('load options: wrong values', async t => {
  const isas = loadBinding()
    .processor()
    .isas.map(isa => `"${isa}"`)
    .join(', ')
  const devices = 'device: expected one of "auto", "cpu", "cuda", "cuda:N", got'
  const table: [options: object, name: 'TypeError' | 'RangeError', message: string][] = [
    [{ device: 'gpu' }, 'RangeError', `${devices} "gpu"`],
    [{ device: 'cuda:-1' }, 'RangeError', `${devices} "cuda:-1"`],
    [{ device: 0 }, 'TypeError', `${devices} 0`],
    [
      { dtype: 'float16' },
      'RangeError',
      'dtype: expected one of "auto", "float32", "bfloat16", "int8", "int4", "int4-all", got "float16"',
    ],
    [
      { activationDtype: 'int8' },
      'RangeError',
      'activationDtype: expected one of "auto", "bfloat16", got "int8"',
    ],
    [
      { kvCacheDtype: 1 },
      'TypeError',
      'kvCacheDtype: expected one of "auto", "float32", "bfloat16", got 1',
    ],
    [{ contextLength: 0 }, 'RangeError', 'contextLength: expected an integer >= 1, got 0'],
    [{ isa: 'mmx' }, 'RangeError', `isa: expected one of "auto", ${isas}, got "mmx"`],
    [{ isa: 2 }, 'TypeError', `isa: expected one of "auto", ${isas}, got 2`],
    [
      { isa: 'scalar', device: 'cuda' },
      'RangeError',
      'isa: applies to the CPU only; expected "auto" with device "cuda:0", got "scalar"',
    ],
    [{ threads: 1.5 }, 'RangeError', 'threads: expected an integer from 1 to 1024, got 1.5'],
    [{ kvCacheTokens: '1' }, 'TypeError', 'kvCacheTokens: expected an integer >= 1, got "1"'],
    [{ onProgress: 1 }, 'TypeError', 'onProgress: expected a function, got 1'],
    [{ signal: 1 }, 'TypeError', 'signal: expected an AbortSignal, got 1'],
    [{ revision: '' }, 'RangeError', 'revision: expected a string that is not empty, got ""'],
    [{ cacheDir: 1 }, 'TypeError', 'cacheDir: expected a string that is not empty, got 1'],
    [
      { endpoint: 'file:///x' },
      'RangeError',
      'endpoint: expected an http or https address, got "file:///x"',
    ],
    [{ endpoint: 'hub' }, 'RangeError', 'endpoint: expected an http or https address, got "hub"'],
    [{ thread: 2 }, 'TypeError', 'unknown option "thread": did you mean threads?'],
    [{ cache_dir: 'x' }, 'TypeError', 'unknown option "cache_dir": did you mean cacheDir?'],
  ]
  for (const [options, name, message] of table) {
    t.throws(() => resolveLoadOptions(options as LoadOptions), { name, message }, message)
  }
  t.throws(() => resolveLoadOptions({ token: ['secret'] } as object), {
    message: 'token: expected a string that is not empty, got a value of type object',
  })
})
