/** Grammars in their threads: kept, shared, ended; and forms that are put together. */
import t from 'tap'
import { CompiledGrammar } from '../../lib/grammar/compiled-grammar.js'
import { Grammars } from '../../lib/grammar/grammars.js'
import { shareVocabulary } from '../../lib/grammar/vocabulary.js'
import { tokenizer } from '../generation/fake-model.js'
import { Driver } from './drive.js'
import { shown } from './random-text.js'

t.test('a grammar is compiled once, and kept while there is room', async t => {
  const grammars = new Grammars(tokenizer.pieces, 2048)
  t.teardown(() => grammars.close())
  const use = async (regex: string) => {
    using lease = await grammars.lease({ regex })
    return lease.grammar
  }
  using held = await grammars.lease({ regex: 'held' })
  const first = await use('a')
  t.equal(await use('a'), first)
  const others = await Promise.all(['b', 'c', 'd', 'e'].map(use))
  await use('f')
  t.equal(await use('e'), others[3], 'a late one is kept')
  t.not(await use('a'), first, 'the oldest is not')
  t.equal(await use('held'), held.grammar, 'one in use is kept')
  t.equal(first.hasFailed, true, 'its thread was ended')
})

t.test('a failure is not kept, and a text in use fails with its grammar', async t => {
  const grammars = new Grammars(tokenizer.pieces, 2048)
  for (let i = 0; i < 2; i++) {
    const error = { code: 'ERR_BAD_GRAMMAR', message: /^grammar.ebnf: line 1/ }
    await t.rejects(grammars.lease({ ebnf: 'root' }), error)
  }
  using lease = await grammars.lease({ regex: 'a+' })
  const matcher = lease.open([], false)
  await matcher.pending
  grammars.close()
  matcher.accept(tokenizer.tokenToId('a')!)
  await t.rejects(matcher.pending!, { code: 'ERR_CLOSED' })
})

t.test('a grammar that takes too long is ended', async t => {
  const vocabulary = await shareVocabulary(tokenizer.pieces, 2048)
  const slow = new CompiledGrammar({ regex: 'a' }, vocabulary, { compileMs: 1, stepMs: 1 })
  await t.rejects(slow.compiled, { code: 'ERR_BAD_GRAMMAR', message: /takes more than 1 ms/ })
  t.equal(slow.hasFailed, true)
})

t.test('a token that does not fit ends the grammar: nothing is known any more', async t => {
  const driver = await Driver.of(tokenizer)
  const grammar = await driver.compile({ regex: 'a+' })
  const matcher = grammar.open([], false)
  await matcher.pending
  matcher.accept(tokenizer.tokenToId('b')!)
  await t.rejects(matcher.pending!, { code: 'ERR_BAD_GRAMMAR' })
})

t.test('no token may follow: the promise that is awaited already rejects', async t => {
  // Tokens: a, b.
  const vocabulary = {
    bytes: Buffer.from('ab'),
    ends: Uint32Array.of(1, 2),
    prefixed: new Uint8Array(2),
  }
  const grammar = new CompiledGrammar({ regex: 'ac' }, vocabulary)
  t.teardown(() => grammar.close())
  const matcher = grammar.open([], false)
  await matcher.pending
  matcher.accept(0)
  await t.rejects(matcher.pending!, { code: 'ERR_BAD_GRAMMAR', message: /no token/ })
  await t.rejects(matcher.pending!, { code: 'ERR_BAD_GRAMMAR' })
})

t.test('XGrammar’s own words, without its paths', async t => {
  const driver = await Driver.of(tokenizer)
  const wrong = { structuralTag: { type: 'sequence', elements: [] } }
  await t.rejects(driver.compile(wrong), {
    code: 'ERR_BAD_GRAMMAR',
    message: /^grammar: (?!.*\/Users).*[a-z]/i,
  })
})

t.test('XGrammar’s memory ends: the grammar is too large', async t => {
  const driver = await Driver.of(tokenizer)
  const names = Array.from({ length: 300 }, (_, i) => [`p${i}`, { type: 'integer' }])
  const jsonSchema = { type: 'object', properties: Object.fromEntries(names) }
  await t.rejects(driver.compile({ jsonSchema: { ...jsonSchema, additionalProperties: true } }), {
    code: 'ERR_BAD_GRAMMAR',
    message: /^grammar: is too large to be compiled \(.*out of bounds/,
  })
})

t.test('a tool call behind thoughts', async t => {
  const driver = await Driver.of(tokenizer)
  const parameters = {
    type: 'object',
    properties: { city: { type: 'string', maxLength: 30 } },
    required: ['city'],
  }
  const call = {
    type: 'sequence',
    elements: [
      { type: 'const_string', value: '<tool_call>\n{"name": "temps_à", "arguments": ' },
      { type: 'json_schema', json_schema: parameters },
      { type: 'const_string', value: '}\n</tool_call>' },
    ],
  }
  const think = { type: 'tag', begin: '<think>', content: { type: 'any_text' }, end: '</think>' }
  const withThoughts = { type: 'sequence', elements: [think, call] }
  const text = '<tool_call>\n{"name": "temps_à", "arguments": {"city": "Zürich"}}\n</tool_call>'
  const plain = await driver.compile({ structuralTag: call })
  const thinking = await driver.compile({ structuralTag: withThoughts })
  t.teardown(() => [plain, thinking].forEach(grammar => void grammar.close()))
  t.ok(await driver.accepts(plain, driver.bytes(text)))
  t.notOk(await driver.accepts(plain, driver.bytes(text.replace('city', 'town'))))
  t.notOk(await driver.accepts(plain, driver.bytes(text.replace('Zürich', 'x'.repeat(31)))))
  t.ok(await driver.accepts(plain, driver.bytes(text.replace('Zürich', 'x'.repeat(30)))))
  t.ok(await driver.accepts(thinking, driver.bytes(`<think>Où? "Là"\n\x01</think>${text}`)))
  t.notOk(await driver.accepts(thinking, driver.bytes(text)))
  const calls = {
    type: 'triggered_tags',
    triggers: ['<call>'],
    tags: ['f', 'g'].map(name => ({
      type: 'tag',
      begin: `<call>${name}`,
      content: { type: 'json_schema', json_schema: parameters },
      end: '</call>',
    })),
  }
  const free = await driver.compile({ structuralTag: calls })
  t.teardown(() => free.close())
  const one = (name: string, city: string) => `<call>${name}{"city":"${city}"}</call>`
  const words = ' and so on, with é and <tags>, for as long as it likes'
  for (const [each, isIn] of [
    [words, true],
    [`${words} ${one('f', 'é')}${words}${one('g', 'x'.repeat(30))}`, true],
    [`${words} ${one('f', 'x'.repeat(31))}`, false],
    [`${words} ${one('h', '')}`, false],
  ] as const)
    t.equal(await driver.accepts(free, driver.bytes(each)), isIn, shown(each))
  const bad = { ...call, elements: [{ type: 'json_schema', json_schema: { not: {} } }] }
  await t.rejects(driver.compile({ structuralTag: bad }), {
    code: 'ERR_BAD_GRAMMAR',
    message: /^grammar.structuralTag.elements\[0\].not: is not supported/,
  })
})
