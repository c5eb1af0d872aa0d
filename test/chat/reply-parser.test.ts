/** An assistant's text taken apart, in chunks that are cut anywhere. */
import t from 'tap'
import type { ChatFormat } from '../../lib/chat/chat-format.js'
import {
  ReplyParser,
  type ReplyParserOptions,
  type ReplyParts,
} from '../../lib/chat/reply-parser.js'
import { uniform } from '../../lib/sampling/rng.js'
import { QWEN3_CALL } from '../support/chat-templates.js'

const FORMAT: Pick<ChatFormat, 'reasoning' | 'toolCall'> = {
  reasoning: { open: '<think>', close: '</think>' },
  toolCall: QWEN3_CALL,
}

const CALL = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'
const PARSED = { name: 'f', arguments: { a: 1 } }

interface Case {
  readonly name: string
  readonly text: string
  readonly parts: ReplyParts
  readonly options?: Partial<ReplyParserOptions>
}

const CASES: readonly Case[] = [
  { name: 'nothing', text: '', parts: {} },
  { name: 'content alone', text: 'Hello.\n', parts: { content: 'Hello.\n' } },
  { name: 'line breaks alone', text: '\n\n', parts: { content: '\n\n' } },
  {
    name: 'thoughts and content',
    text: '<think>\nWell,\nthen.\n</think>\n\nHello.',
    parts: { reasoning: 'Well,\nthen.', content: 'Hello.' },
  },
  { name: 'empty thoughts', text: '<think>\n\n</think>\n\nHello.', parts: { content: 'Hello.' } },
  {
    name: 'blanks before thoughts',
    text: ' \n<think>a</think>b',
    parts: { reasoning: 'a', content: 'b' },
  },
  { name: 'thoughts without an end', text: '<think>\nWell', parts: { reasoning: 'Well' } },
  {
    name: 'the mark in content',
    text: 'a <think>b</think>',
    parts: { content: 'a <think>b</think>' },
  },
  { name: 'a mark that does not end', text: 'a <tool_cal', parts: { content: 'a <tool_cal' } },
  { name: 'a beginning of a mark', text: '  <thin', parts: { content: '  <thin' } },
  {
    name: 'thoughts that the prompt has opened',
    text: '\nWell.</think>\nYes',
    options: { reasoning: 'open' },
    parts: { reasoning: 'Well.', content: 'Yes' },
  },
  { name: 'a call', text: CALL, parts: { toolCalls: [PARSED] } },
  {
    name: 'content and two calls',
    text: `<think>\nhm\n</think>\n\nLet me see.\n${CALL}\n${CALL}`,
    parts: { reasoning: 'hm', content: 'Let me see.', toolCalls: [PARSED, PARSED] },
  },
  {
    name: 'content behind a call',
    text: `${CALL}\nDone.\n`,
    parts: { content: 'Done.\n', toolCalls: [PARSED] },
  },
  {
    name: 'thoughts that the prompt has closed',
    text: '<think>x</think>y',
    options: { reasoning: 'closed' },
    parts: { content: '<think>x</think>y' },
  },
  {
    name: 'the mark in a string of a call',
    text: '<tool_call>{"name": "f", "arguments": {"a": "</tool_call>\\""}}</tool_call>\nDone.',
    parts: { content: 'Done.', toolCalls: [{ name: 'f', arguments: { a: '</tool_call>"' } }] },
  },
  { name: 'blanks before a call', text: `  \n${CALL}`, parts: { toolCalls: [PARSED] } },
  { name: 'blanks before content', text: '  \nHello.', parts: { content: '  \nHello.' } },
  {
    name: 'a call that is not expected',
    text: CALL,
    options: { hasTools: false },
    parts: { content: CALL },
  },
]

function parse(chunks: readonly string[], options: Partial<ReplyParserOptions> = {}): ReplyParts {
  const parser = new ReplyParser({
    format: FORMAT,
    reasoning: 'free',
    hasTools: true,
    ...options,
  })
  const parts = [...chunks.map(chunk => parser.push(chunk)), parser.end()]
  const join = (name: 'reasoning' | 'content') => parts.map(part => part[name] ?? '').join('')
  const toolCalls = parts.flatMap(part => part.toolCalls ?? [])
  return {
    ...(join('reasoning') !== '' && { reasoning: join('reasoning') }),
    ...(join('content') !== '' && { content: join('content') }),
    ...(toolCalls.length > 0 && { toolCalls }),
  }
}

t.test('parts of a reply', async t => {
  for (const { name, text, parts, options } of CASES)
    t.strictSame(parse([text], options), parts, name)
})

t.test('the chunks may be cut anywhere', async t => {
  for (const [i, { name, text, parts, options }] of CASES.entries()) {
    t.strictSame(parse([...text], options), parts, `${name}, unit by unit`)
    for (let seed = 0; seed < 50; seed++) {
      const isCut = (at: number) => uniform(seed, i, at) < 0.2
      const chunks: string[] = ['']
      for (const [at, unit] of [...text].entries()) {
        if (isCut(at)) chunks.push('')
        chunks.push(chunks.pop() + unit)
      }
      t.strictSame(parse(chunks, options), parts, `${name}, seed ${seed}`)
    }
  }
})

t.test('calls that cannot be made keep their text', async t => {
  const call = (text: string) => parse([text]).toolCalls?.[0]
  t.match(call('<tool_call>{"name": "f", "arguments": {"a": }}</tool_call>'), {
    name: 'f',
    arguments: '{"a": }',
    invalid: /^it is not JSON: /,
  })
  t.match(call('<tool_call>call f please</tool_call>'), {
    name: '',
    arguments: 'call f please',
    invalid: /^it is not JSON: /,
  })
  t.strictSame(call('<tool_call>{"name": "f", "arguments": {"a": 1'), {
    name: 'f',
    arguments: '{"a": 1',
    invalid: 'it has no end',
  })
  t.strictSame(call('<tool_call>{"arguments": {}}</tool_call>'), {
    name: '',
    arguments: '{}',
    invalid: 'it has no name',
  })
  t.strictSame(call('<tool_call>{"name": "f", "arguments": [1]}</tool_call>'), {
    name: 'f',
    arguments: '[1]',
    invalid: 'its arguments are not an object',
  })
  t.strictSame(call('<tool_call>{"name": "f", "input": {"a": 1}}</tool_call>'), {
    name: 'f',
    arguments: '{"name": "f", "input": {"a": 1}}',
    invalid: 'its arguments are not an object',
  })
  t.match(call('<tool_call>{"name": "f", "arguments": {"a": 1e999}}</tool_call>'), {
    name: 'f',
    arguments: '{"a": 1e999}',
    invalid: /^arguments.a: /,
  })
  const deep = `{"a": ${'['.repeat(200)}${']'.repeat(200)}}`
  t.match(call(`<tool_call>{"name": "f", "arguments": ${deep}}</tool_call>`), {
    arguments: deep,
    invalid: /^arguments/,
  })
  t.strictSame(call('<tool_call>{"name": "f", "parameters": {"a": 1}}</tool_call>'), PARSED)
  t.strictSame(call('<tool_call>{"name": "f"}</tool_call>'), { name: 'f', arguments: {} })
})

t.test('a call of a megabyte in small chunks', async t => {
  const text = 'x'.repeat(1_000_000)
  const chunks = [`<tool_call>{"name": "f", "arguments": {"a": "`]
  for (let at = 0; at < text.length; at += 10) chunks.push(text.slice(at, at + 10))
  chunks.push('"}}</tool_call>')
  t.strictSame(parse(chunks).toolCalls, [{ name: 'f', arguments: { a: text } }])
})

t.test('a string without an end does not swallow the text behind the call', async t => {
  const text = '<tool_call>{"name": "f", "arguments": {"a": "b}}</tool_call>\nDone.'
  for (const chunks of [[text], [...text]]) {
    t.match(parse(chunks), {
      content: 'Done.',
      toolCalls: [{ name: 'f', arguments: '{"a": "b}', invalid: /^it is not JSON/ }],
    })
  }
})

t.test('runs of white space take no time of their square', async t => {
  for (const run of ['\n', ' ']) {
    const text = `${run.repeat(60_000)}a${run.repeat(60_000)}b`
    t.equal(parse([text]).content, text)
    t.equal(parse([...text]).content, text)
  }
})
