/** The option `grammar` of generate and stream. */
import t, { type Test } from 'tap'
import type { GenerateOptions } from '../../lib/options/generate.js'
import type { Grammar } from '../../lib/options/grammar.js'
import { EOS, fakeModel, tokenizer } from '../generation/fake-model.js'

const PROMPT = 'The old man'
const QUOTE = tokenizer.tokenToId('"')!
/** So that strings end before the context does. */
const logitBias = { [QUOTE]: 3 }
const sampled: GenerateOptions = { temperature: 1, topK: 0, logitBias, maxNewTokens: 150, seed: 5 }

const person: Grammar = {
  jsonSchema: {
    type: 'object',
    properties: {
      name: { type: 'string', maxLength: 12 },
      age: { type: 'integer', minimum: 0, maximum: 120 },
      kind: { enum: ['a', 'b'] },
    },
    required: ['name', 'age', 'kind'],
  },
}

const { model } = fakeModel({ pages: 100 })
t.teardown(() => model.close())

interface Person {
  name: string
  age: number
  kind: string
}

function checkPerson(t: Test, text: string): void {
  const { name, age, kind } = JSON.parse(text) as Person
  t.ok([...name].length <= 12 && age >= 0 && age <= 120 && /^[ab]$/.test(kind), text)
}

t.test('the text has the form, whatever the logits are', async t => {
  for (let seed = 0; seed < 4; seed++) {
    const { text, finishReason } = await model.generate(PROMPT, {
      ...sampled,
      seed,
      grammar: person,
    })
    t.equal(finishReason, 'stop')
    checkPerson(t, text)
  }
  const { text } = await model.generate(PROMPT, { grammar: person, maxNewTokens: 150, logitBias })
  checkPerson(t, text)
})

t.test('alone, in a batch, or as a stream: the same', async t => {
  const prompts = [PROMPT, 'A']
  const options = { ...sampled, grammar: person, logprobs: 1 }
  const together = await model.generate(prompts, options)
  for (const [i, prompt] of prompts.entries()) {
    const alone = await model.generate(prompt, options)
    t.same(alone.tokenIds, together[i]!.tokenIds)
    t.same(alone.logprobs, together[i]!.logprobs)
  }
  const stream = model.stream(PROMPT, options)
  let text = ''
  for await (const chunk of stream) text += chunk.text
  t.equal(text, together[0]!.text)
  const several = await model.generate(PROMPT, {
    ...sampled,
    grammar: person,
    numReturnSequences: 2,
  })
  t.equal(several[0]!.text, text)
  t.equal(new Set(several.map(each => each.text)).size, 2)
  for (const each of several) checkPerson(t, each.text)
})

t.test('a regular expression and an EBNF', async t => {
  const options = { ...sampled, seed: 1 }
  const { text } = await model.generate(PROMPT, {
    ...options,
    grammar: { regex: ' [a-f]{3}-\\d+!' },
  })
  t.match(text, /^ [a-f]{3}-\d+!$/)
  const ebnf = 'root ::= " " word ("," word)* "." # words\nword ::= "é" | "ab" | "東"'
  const words = await model.generate(PROMPT, { ...options, grammar: { ebnf } })
  t.match(words.text, /^ (é|ab|東)(,(é|ab|東))*\.$/u)
})

t.test('maxNewTokens cuts, and only that', async t => {
  const { text, finishReason } = await model.generate(PROMPT, {
    ...sampled,
    maxNewTokens: 5,
    grammar: person,
  })
  t.equal(finishReason, 'length')
  t.throws(() => JSON.parse(text))
})

t.test('without an end token the text ends where nothing may follow', async t => {
  for (const ignoreEos of [true, false]) {
    const { text, finishReason, tokenIds } = await model.generate(PROMPT, {
      ...sampled,
      ignoreEos,
      grammar: { regex: 'abc' },
    })
    t.equal(text, 'abc')
    t.equal(finishReason, 'stop')
    t.equal(tokenIds.at(-1) === EOS, !ignoreEos)
  }
  const open = await model.generate(PROMPT, {
    ...sampled,
    ignoreEos: true,
    maxNewTokens: 20,
    grammar: { regex: '\\d+' },
  })
  t.equal(open.finishReason, 'length', 'more may follow')
  t.match(open.text, /^\d{20}/)
})

t.test('a stop token ends the text only where the grammar may end', async t => {
  const x = tokenizer.tokenToId('x')!
  const grammar = { regex: 'x?[ab]{2,}x?' }
  const { text, tokenIds } = await model.generate(PROMPT, {
    ...sampled,
    ignoreEos: true,
    stopTokenIds: [x],
    logitBias: { [x]: 50 },
    grammar,
  })
  t.equal(tokenIds.at(-1), x)
  t.match(text, /^[ab]{2,}$/, 'x as a first letter would have ended it')
})

t.test('minNewTokens holds back an end, but not that of a complete text', async t => {
  const long = await model.generate(PROMPT, {
    ...sampled,
    minNewTokens: 10,
    logitBias: { [EOS]: 60 },
    grammar: { regex: '[a-z]+' },
  })
  t.equal(long.tokenIds.length, 11)
  const complete = await model.generate(PROMPT, {
    ...sampled,
    minNewTokens: 10,
    grammar: { regex: 'ab' },
  })
  t.equal(complete.text, 'ab')
  t.equal(complete.finishReason, 'stop')
})

t.test('a stop string ends the text early', async t => {
  const { text, finishReason } = await model.generate(PROMPT, {
    ...sampled,
    stop: 'c',
    grammar: { regex: 'abcd' },
  })
  t.equal(text, 'ab')
  t.equal(finishReason, 'stop')
})

t.test('options that ban all that the grammar allows are an error', async t => {
  const banned = Object.fromEntries(Array.from({ length: 2048 }, (_, id) => [id, -Infinity]))
  delete banned[tokenizer.tokenToId('b')!]
  await t.rejects(model.generate(PROMPT, { logitBias: banned, grammar: { regex: 'a' } }), {
    name: 'RangeError',
    message: /ban every token that the grammar allows/,
  })
})

t.test('penalties and the hook come before the grammar, logprobs are the model’s', async t => {
  const letters = new Set<number>()
  const { text, logprobs } = await model.generate(PROMPT, {
    maxNewTokens: 4,
    logprobs: 2,
    grammar: { regex: '[ab]+' },
    logits: logits => {
      letters.add(logits.filter(x => x !== -Infinity).length)
      logits[tokenizer.tokenToId('c')!] = 90
      logits[tokenizer.tokenToId('b')!] = 80
    },
  })
  t.same([...letters], [2048], 'the hook sees the whole row')
  t.equal(text, 'bbbb')
  const plain = await model.generate(PROMPT, { maxNewTokens: 1, logprobs: 2 })
  const ids = (each: typeof logprobs) => each![0]!.top.map(({ tokenId }) => tokenId)
  t.same(ids(logprobs), ids(plain.logprobs))
  const repeated = await model.generate(PROMPT, {
    maxNewTokens: 6,
    noRepeatNgramSize: 1,
    grammar: { regex: '[a-f]{6}' },
  })
  t.equal(new Set(repeated.tokenIds).size, repeated.tokenIds.length)
})

t.test('a text that begins with its first token has no space that is dropped', async t => {
  const grammar = { regex: ' ?[a-z ]{3,}' }
  for (let seed = 0; seed < 3; seed++) {
    const options = { ...sampled, seed, grammar, maxNewTokens: 30 }
    const { text, tokenIds } = await model.generate([tokenizer.bosTokenId!], options)
    t.match(text, /^ ?[a-z ]{3,}$/)
    t.notMatch(tokenizer.idToToken(tokenIds[0]!)!, /^\u2581/)
  }
})

t.test('texts that are preempted follow it, too', async t => {
  const tight = fakeModel({ pages: 40, pageSize: 4, contextLength: 150 })
  t.teardown(() => tight.model.close())
  const prompts = Array.from({ length: 6 }, (_, i) => `${PROMPT} ${i}`)
  const together = await tight.model.generate(prompts, { ...sampled, grammar: person })
  t.ok(tight.model.stats().preemptions > 0)
  for (const [i, prompt] of prompts.entries()) {
    const alone = await model.generate(prompt, { ...sampled, grammar: person })
    t.equal(together[i]!.text, alone.text)
  }
})

t.test('bad grammars', async t => {
  const table: [grammar: unknown, error: Record<string, unknown>][] = [
    [
      { ebnf: 'root ::= a' },
      { code: 'ERR_BAD_GRAMMAR', message: /line 1, column 10: the rule "a"/ },
    ],
    [{ regex: '(' }, { code: 'ERR_BAD_GRAMMAR', message: /^grammar.regex: Invalid regular/ }],
    [
      { jsonSchema: { not: {} } },
      { code: 'ERR_BAD_GRAMMAR', message: /^grammar.jsonSchema.not: / },
    ],
    ['{}', { name: 'TypeError', message: /^grammar: expected an object with one of/ }],
    [{}, { name: 'TypeError' }],
    [{ regex: 'a', ebnf: 'b' }, { name: 'TypeError' }],
    [{ regex: 5 }, { name: 'TypeError', message: 'grammar.regex: expected a string, got 5' }],
    [{ jsonSchema: 'x' }, { name: 'TypeError' }],
    [{ jsonSchema: { const: 5n } }, { code: 'ERR_BAD_GRAMMAR', message: /expected JSON/ }],
    [
      { jsonSchema: { toJSON() {} } },
      {
        code: 'ERR_BAD_GRAMMAR',
        message: 'grammar.jsonSchema: expected JSON, got an object that has none',
      },
    ],
    [{ regex: 'a'.repeat(300_000) }, { code: 'ERR_BAD_GRAMMAR', message: /300002 characters/ }],
  ]
  for (const [grammar, error] of table) {
    await t.rejects(
      model.generate(PROMPT, { grammar: grammar as Grammar }),
      error as { code: string },
    )
  }
  await t.rejects(model.stream(PROMPT, { grammar: { regex: '(' } }).next(), {
    code: 'ERR_BAD_GRAMMAR',
  })
  const bare = fakeModel({ hasTokenizer: false })
  await t.rejects(bare.model.generate([5], { grammar: person }), { code: 'ERR_BAD_TOKENIZER' })
})

t.test('an abort, and the end of the model', async t => {
  const other = fakeModel()
  const signal = AbortSignal.abort()
  const { finishReason } = await other.model.generate(PROMPT, { grammar: person, signal })
  t.equal(finishReason, 'abort')
  const controller = new AbortController()
  const aborted = other.model.generate(PROMPT, { grammar: person, signal: controller.signal })
  controller.abort()
  t.equal((await aborted).finishReason, 'abort')
  const closed = other.model.generate(PROMPT, { grammar: { regex: 'ab{50}' } })
  await other.model.close()
  await t.rejects(closed, { code: 'ERR_CLOSED' })
})

t.test('guesses of the next tokens change nothing', async t => {
  for (const [i, source] of [{ regex: '(7;){40}' }, { regex: '[a-c ]{60}' }].entries()) {
    const options = { grammar: source, maxNewTokens: 100, temperature: 5, topK: 0, seed: i }
    const plain = await model.generate('Once', { ...options, logprobs: 2 })
    const guessed = await model.generate('Once', {
      ...options,
      logprobs: 2,
      speculate: { ngram: 2 },
    })
    t.strictSame(guessed.tokenIds, plain.tokenIds)
    t.strictSame(guessed.logprobs, plain.logprobs)
    if (i === 0)
      t.ok(guessed.usage.acceptedTokens! > 10, `${guessed.usage.acceptedTokens} accepted`)
  }
})
