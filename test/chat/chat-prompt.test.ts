/** Prompts of the golden conversations, and the forms of several templates. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { readChatFormat } from '../../lib/chat/chat-format.js'
import { chatPrompt } from '../../lib/chat/chat-prompt.js'
import { type ChatMessage, type ChatTool, loadTokenizer } from '../../lib/index.js'
import { chatCheckpoint, QWEN3_TEMPLATE } from '../support/chat-checkpoint.js'
import { golden, readJson } from '../support/golden.js'

interface GoldenCase {
  readonly name: string
  readonly template: string
  readonly messages: readonly ChatMessage[]
  readonly options: {
    add_generation_prompt: boolean
    tools?: ChatTool[]
    enable_thinking?: boolean
  }
}

const TEMPLATES = join(golden, 'families', 'chat_template')
const { cases } = readJson<{ cases: GoldenCase[] }>(join(TEMPLATES, 'expected.json'))

t.test('the tokens of a prompt are those of the rendered text', async t => {
  for (const { name, template: file, messages, options } of cases) {
    const template = readFileSync(join(TEMPLATES, `${file}.jinja`), 'utf8')
    const tokenizer = await loadTokenizer(chatCheckpoint(t.testdir(), { template }))
    const format = await readChatFormat(tokenizer.template, undefined)
    const { add_generation_prompt: _, tools = [], ...templateVariables } = options
    const chat = { tools, toolChoice: 'auto', templateName: undefined } as const
    const split = { ...chat, templateVariables, generation: {} }
    const { parts } = await chatPrompt(messages, split, format, tokenizer)
    const text = await tokenizer.applyChatTemplate(messages, {
      ...options,
      add_generation_prompt: true,
    })
    t.strictSame(await tokenizer.encodeParts(parts, {}), tokenizer.encode(text), name)
  }
})

const QWEN3_CALL = {
  open: '<tool_call>',
  close: '</tool_call>',
  beforeName: '\n{"name": "',
  beforeArguments: '", "arguments": ',
  afterArguments: '}\n',
  between: '\n',
}

const CHATML =
  "{% for m in messages %}<|im_start|>{{ m.role + '\n' + m.content }}<|im_end|>\n{% endfor %}"

/** Refuses all but users and assistants in turn, and knows no thoughts. */
const STRICT =
  "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}" +
  "{{ raise_exception('roles must alternate') }}{% endif %}" +
  "{{ '[INST] ' + m.content + ' [/INST]' if m.role == 'user' else m.content + '<|endoftext|>' }}" +
  '{% endfor %}'

/** Thoughts without line breaks, and calls between other marks. */
const OTHER =
  "{% for m in messages %}{% if m.role == 'user' %}<|user|>{{ m.content }}{% else %}<|assistant|>" +
  '{% if m.reasoning_content %}<thought>{{ m.reasoning_content }}</thought>{% endif %}' +
  '{{ m.content }}{% for c in m.tool_calls or [] %}<call>{"name":"{{ c.function.name }}",' +
  '"arguments":{{ c.function.arguments | tojson }}}</call>{% endfor %}{% endif %}{% endfor %}'

const FORMS = [
  {
    name: "Qwen3's",
    template: QWEN3_TEMPLATE,
    format: {
      afterMessage: '<|im_end|>\n<|im_start|>user\n',
      reasoning: { open: '<think>', close: '</think>' },
      toolCall: QWEN3_CALL,
    },
  },
  { name: 'ChatML', template: CHATML, format: { afterMessage: '<|im_end|>\n<|im_start|>user\n' } },
  { name: 'a strict one', template: STRICT, format: { afterMessage: '<|endoftext|>[INST] ' } },
  {
    name: 'another',
    template: OTHER,
    format: {
      afterMessage: '<|user|>',
      reasoning: { open: '<thought>', close: '</thought>' },
      toolCall: {
        open: '<call>',
        close: '</call>',
        beforeName: '{"name":"',
        beforeArguments: '","arguments":',
        afterArguments: '}',
        between: '',
      },
    },
  },
  {
    name: 'one that refuses everything',
    template: "{{ raise_exception('no') }}",
    format: { afterMessage: '' },
  },
]

for (const { name, template, format } of FORMS) {
  t.test(`the form of ${name}`, async t => {
    const tokenizer = await loadTokenizer(chatCheckpoint(t.testdir(), { template }))
    t.strictSame(await readChatFormat(tokenizer.template, undefined), format)
  })
}
