/** A checkpoint's templates are those that transformers finds, and so are its special tokens. */
import t from 'tap'
import { loadTokenizer } from '../../lib/index.js'
import { checkpoint, type Files, model } from '../tokenizer/small-checkpoint.js'

const list = [
  { name: 'default', template: 'L' },
  { name: 'tool_use', template: 'T' },
]
const inConfig = { 'tokenizer_config.json': { chat_template: 'C' } }
const inList = { 'tokenizer_config.json': { chat_template: list } }
const inJson = { 'chat_template.json': { chat_template: 'J' } }
const inFile = { 'chat_template.jinja': 'F' }

t.test('the one that wins', async t => {
  const text = async (files: Files, options = {}) =>
    (await loadTokenizer(checkpoint(t, files))).applyChatTemplate([], options)
  t.equal(await text(inConfig), 'C')
  t.equal(await text(inJson), 'J')
  t.equal(await text({ ...inJson, ...inConfig }), 'C')
  t.equal(await text({ ...inJson, ...inConfig, ...inFile }), 'F')
  t.equal(await text(inList), 'L')
  t.equal(await text(inList, { tools: [] }), 'T')
  t.equal(await text({ ...inList, ...inFile }, { tools: [] }), 'F', 'files replace the list')
})

t.test('a folder of more', async t => {
  const directory = t.testdir({
    'tokenizer.model': model,
    'chat_template.jinja': 'F',
    'tokenizer_config.json': JSON.stringify(inList['tokenizer_config.json']),
    additional_chat_templates: { 'rag.jinja': 'R', 'tool_use.jinja': 'U', 'notes.txt': 'N' },
  })
  const tokenizer = await loadTokenizer(directory)
  t.equal(tokenizer.chatTemplate, 'F')
  t.strictSame([...tokenizer.template.templates.keys()], ['default', 'rag', 'tool_use'])
  t.equal(await tokenizer.applyChatTemplate([], { templateName: 'rag' }), 'R')
  t.equal(await tokenizer.applyChatTemplate([], { tools: [] }), 'U')
})

t.test('special tokens', async t => {
  const source = '{{ bos_token }}{{ eos_token }}{{ sep_token }}{{ additional_special_tokens }}'
  const text = async (config: object, map = {}) => {
    const files = {
      'tokenizer_config.json': { chat_template: source, ...config },
      'special_tokens_map.json': map,
    }
    return (await loadTokenizer(checkpoint(t, files))).applyChatTemplate([])
  }
  t.equal(await text({}), '<s></s>', 'the names that LlamaTokenizer has')
  t.equal(await text({ eos_token: null, sep_token: { content: 'S' } }), '<s>S')
  t.equal(await text({ sep_token: 'S' }, { sep_token: 'M' }), '<s></s>S')
  t.equal(
    await text({}, { additional_special_tokens: ['A', { content: 'B' }] }),
    "<s></s>['A', 'B']",
  )
})

t.test('none', async t => {
  const directory = checkpoint(t)
  const tokenizer = await loadTokenizer(directory)
  t.equal(tokenizer.chatTemplate, undefined)
  const error = { code: 'ERR_NO_CHAT_TEMPLATE', message: /no chat template.*base model.*generate/ }
  await t.rejects(tokenizer.applyChatTemplate([]), error)
  t.throws(() => tokenizer.template, error)
})

t.test('damaged ones', async t => {
  const wrong: readonly Files[] = [
    { 'tokenizer_config.json': { chat_template: 3 } },
    { 'tokenizer_config.json': { chat_template: [{ name: 'default' }] } },
    { 'tokenizer_config.json': { chat_template: [{ template: 'T' }] } },
    { 'tokenizer_config.json': { chat_template: new Array(65).fill(list[0]) } },
    { 'chat_template.json': { chat_template: {} } },
    { 'chat_template.json': '{' },
    { 'chat_template.jinja': Buffer.of(0xff) },
  ]
  for (const files of wrong)
    await t.rejects(loadTokenizer(checkpoint(t, files)), { code: 'ERR_BAD_TOKENIZER' })
})
