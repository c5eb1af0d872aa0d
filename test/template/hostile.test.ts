/** A template that does its worst fails its own call, and no other. */
import t from 'tap'
import { loadTokenizer, MoeppError } from '../../lib/index.js'
import { ChatTemplate } from '../../lib/template/chat-template.js'
import { checkpoint } from '../tokenizer/small-checkpoint.js'

const messages = [{ role: 'user', content: 'Hi' }]

function template(source: string, deadlineMs?: number): ChatTemplate {
  const templates = new Map([['default', source]])
  return new ChatTemplate({ templates, file: 'a/chat_template.jinja', tokens: {} }, deadlineMs)
}

async function problemOf(source: string, deadlineMs?: number): Promise<string> {
  const error: unknown = await template(source, deadlineMs)
    .render(messages)
    .then(
      text => new Error(`rendered ${text.length} characters`),
      error => error,
    )
  if (!(error instanceof MoeppError)) throw error
  return `${error.code}: ${error.message}`
}

const loops = '{% for a in range(100000) %}{% for b in range(100000) %}'
const ends = '{% endfor %}{% endfor %}'
const doubling = (start: string, step: string) =>
  `{% set n = namespace(x=${start}) %}{% for i in range(64) %}{% set n.x = ${step} %}{% endfor %}`

/** A slow machine may come to the deadline first. */
const anyLimit = /8000000 characters|was ended/

const HOSTILE: readonly (readonly [name: string, source: string, problem: RegExp, ms?: number])[] =
  [
    ['an endless loop', loops + ends, /was ended: it took longer than 100 ms/, 100],
    ['a huge output', `${loops}${'a'.repeat(1000)}${ends}`, anyLimit],
    ['a doubling text', doubling("'ab'", 'n.x + n.x'), /more than 8000000 characters/],
    ['a text doubled by ~', doubling("'ab'", 'n.x ~ n.x'), /more than 8000000 characters/],
    ['a text replaced', doubling("'aa'", "n.x.replace('a', n.x)"), /more than 8000000 characters/],
    ['a text repeated', "{{ 'ab' * 1000000000 }}", /more than 8000000 characters/],
    ['an indent', "{{ 'a\\nb' | indent(100000000) }}", /more than 8000000 characters/],
    ['a doubling list', doubling('[1]', 'n.x + n.x'), /more than 1000000 items/],
    ['a list in itself', `${doubling('[1]', '[n.x, n.x]')}{{ n.x | tojson }}`, anyLimit],
    ['a long range', '{{ range(1000000000) }}', /more than 100000 numbers/],
    ['a recursion', '{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}', /call stack/],
    ['a deep expression', `{{ ${'('.repeat(1e5)}1${')'.repeat(1e5)} }}`, /call stack/],
    ['a syntax fault', '{% if %}', /the chat template failed/],
    ['an open block', '{% for x in y %}', /the chat template failed/],
    ['a long template', 'a'.repeat(1_000_001), /is longer than 1000000 characters/],
    ['an undefined value', '{{ messages[0].a.b }}', /failed: 'a' is undefined/],
    ['control characters', '{{ raise_exception("a\u001b[2Jb") }}', /messages: a\\u001b\[2Jb$/],
    ['a long refusal', '{{ raise_exception("a" * 5000) }}', /messages: a{500}\.\.\.$/],
  ]

const good = template('{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}')

for (const [name, source, problem, ms] of HOSTILE) {
  t.test(name, async t => {
    const hostile = problemOf(source, ms)
    const beside = good.render(messages)
    t.match(await hostile, problem)
    t.match(await hostile, /^ERR_BAD_TEMPLATE: a\/chat_template\.jinja: the chat template/)
    t.equal(await beside, 'user: Hi', 'a good template beside it')
    t.equal(await good.render(messages), 'user: Hi', 'a good template after it')
  })
}

t.test('memory', async t => {
  const keep = doubling('[]', "n.x + [('a' * 7000000 ~ i).upper()]")
  t.match(await problemOf(keep), /was ended: it took more than 256 MB|was ended: it took longer/)
  t.equal(await good.render(messages), 'user: Hi')
})

t.test('the event loop runs meanwhile', async t => {
  let turns = 0
  const timer = setInterval(() => turns++, 5)
  await problemOf(loops + ends, 100)
  clearInterval(timer)
  t.ok(turns > 0)
})

t.test('nothing of JavaScript is reachable', async t => {
  const names = ['constructor', '__proto__', 'prototype', 'toString', '__class__', 'valueOf']
  const values = ['messages', 'messages[0]', "''", '1', 'range', 'namespace()', 'true', 'none']
  for (const value of values) {
    for (const name of names) {
      const source = `{{ ${value}.${name} is undefined }}{{ ${value}['${name}'] is undefined }}`
      t.equal(await template(source).render(messages), 'TrueTrue', `${value}.${name}`)
    }
  }
  for (const name of ['process', 'require', 'globalThis', 'constructor', '__proto__']) {
    t.equal(await template(`{{ ${name} is undefined }}`).render(messages), 'True', name)
  }
})

t.test('a prototype in the messages is data', async t => {
  const message = JSON.parse('{"role": "user", "content": "Hi", "__proto__": {"x": 1}}')
  const source = "{{ messages[0]['__proto__'] | tojson }}{{ messages[0].x is undefined }}"
  t.equal(await template(source).render([message]), '{"x": 1}True')
  t.equal(({} as { x?: number }).x, undefined)
})

t.test('the folder of the template is named', async t => {
  const directory = checkpoint(t, { 'chat_template.jinja': '{{ raise_exception("no \\n") }}' })
  const tokenizer = await loadTokenizer(directory)
  await t.rejects(tokenizer.applyChatTemplate(messages), {
    code: 'ERR_BAD_TEMPLATE',
    message: `${directory}/chat_template.jinja: the chat template refuses the messages: no \\u000a`,
  })
})
