/** Chat templates give the texts that Python's Jinja gives, in the environment of transformers. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { ChatMessage, ChatTool } from '../../lib/index.js'
import { loadTokenizer } from '../../lib/index.js'
import { golden, readJson } from '../support/golden.js'
import { checkpoint, type Files } from '../tokenizer/small-checkpoint.js'

interface Case {
  readonly name: string
  readonly template: string
  readonly messages: ChatMessage[]
  readonly options: Record<string, unknown>
  readonly text: string
}

const folder = join(golden, 'families', 'chat_template')
const { cases } = readJson<{ cases: Case[] }>(join(folder, 'expected.json'))
const source = (name: string) => readFileSync(join(folder, `${name}.jinja`), 'utf8')

/** The form that callers of moepp write. */
function camelCase(message: ChatMessage): ChatMessage {
  const { reasoning_content: reasoning, tool_calls: calls, ...rest } = message
  const toolCalls = (calls as { function: { name: string; arguments: string } }[] | undefined)?.map(
    call => call.function,
  )
  return { ...rest, ...(reasoning ? { reasoning: String(reasoning) } : {}), toolCalls }
}

for (const name of new Set(cases.map(({ template }) => template))) {
  t.test(`the golden cases of ${name}`, async t => {
    const files: Files[] = [
      { 'chat_template.jinja': source(name) },
      { 'tokenizer_config.json': { chat_template: source(name) } },
    ]
    for (const file of files) {
      const tokenizer = await loadTokenizer(checkpoint(t, file))
      for (const { messages, options, text, ...one } of cases) {
        if (one.template !== name) continue
        const { add_generation_prompt: addGenerationPrompt, tools, ...variables } = options
        const ours = {
          addGenerationPrompt: addGenerationPrompt as boolean,
          tools: tools as ChatTool[] | undefined,
          ...variables,
        }
        t.equal(await tokenizer.applyChatTemplate(messages, ours), text, one.name)
        const camel = messages.map(camelCase)
        t.equal(await tokenizer.applyChatTemplate(camel, ours), text, `${one.name}, moepp's names`)
        t.equal(await tokenizer.applyChatTemplate(messages, options), text, `${one.name}, as given`)
      }
    }
  })
}
