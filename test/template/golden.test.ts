/** Chat templates give the texts that Python's Jinja gives, in the environment of transformers. */
import t from 'tap'
import { type ChatMessage, loadTokenizer } from '../../lib/index.js'
import { TEMPLATES } from '../support/chat-templates.js'
import { checkpoint, type Files } from '../tokenizer/small-checkpoint.js'

/** The form that callers of moepp write. */
function camelCase(message: ChatMessage): ChatMessage {
  const { reasoning_content: reasoning, tool_calls: calls, ...rest } = message
  const toolCalls = (calls as { function: { name: string; arguments: string } }[] | undefined)?.map(
    call => call.function,
  )
  return { ...rest, ...(reasoning ? { reasoning: String(reasoning) } : {}), toolCalls }
}

for (const { name, source, chats } of TEMPLATES) {
  t.test(`the golden cases of ${name}`, async t => {
    const files: Files[] = [
      { 'chat_template.jinja': source },
      { 'tokenizer_config.json': { chat_template: source } },
    ]
    for (const file of files) {
      const tokenizer = await loadTokenizer(checkpoint(t, file))
      for (const { name, messages, options, text } of chats) {
        const { add_generation_prompt: addGenerationPrompt, ...others } = options
        const ours = { addGenerationPrompt, ...others }
        t.equal(await tokenizer.applyChatTemplate(messages, ours), text, name)
        const camel = messages.map(camelCase)
        t.equal(await tokenizer.applyChatTemplate(camel, ours), text, `${name}, moepp's names`)
        t.equal(await tokenizer.applyChatTemplate(messages, options), text, `${name}, as given`)
      }
    }
  })
}
