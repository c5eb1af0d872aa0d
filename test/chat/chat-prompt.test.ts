/** Prompts of the golden conversations, and the forms of several templates. */
import t from 'tap'
import { readChatFormat } from '../../lib/chat/chat-format.js'
import { chatPrompt } from '../../lib/chat/chat-prompt.js'
import { loadTokenizer } from '../../lib/index.js'
import { chatCheckpoint } from '../support/chat-checkpoint.js'
import { QWEN3_CALL, QWEN3_TEMPLATE, TEMPLATES } from '../support/chat-templates.js'

for (const { name, source, chats } of TEMPLATES) {
  t.test(`${name}: the tokens of a prompt are those of the rendered text`, async t => {
    const tokenizer = await loadTokenizer(chatCheckpoint(t.testdir(), { template: source }))
    const format = await readChatFormat(tokenizer.template, undefined)
    for (const { name, messages, options } of chats) {
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
      tellsTools: true,
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
    const known = { tellsTools: false, takesParts: false, ...format }
    t.strictSame(await readChatFormat(tokenizer.template, undefined), known)
  })
}
