// A question that a model answers with the help of a tool. It needs a model with a chat template.
// To talk to one in a terminal: npx moepp chat
//
//   node examples/chat.ts MODEL "How warm is it in Oslo?"
import { type ChatMessage, type ChatTool, loadModel, type ToolCall } from 'moepp'

const [source = 'hf:Qwen/Qwen3-30B-A3B', question = 'How warm is it in Oslo?'] =
  process.argv.slice(2)

const tools: ChatTool[] = [
  {
    type: 'function',
    function: {
      name: 'weather',
      description: 'The weather of a city.',
      parameters: {
        type: 'object',
        properties: { city: { type: 'string' } },
        required: ['city'],
        additionalProperties: false,
      },
    },
  },
]

function run({ name, arguments: given, invalid }: ToolCall): string {
  if (invalid !== undefined) return `The call cannot be made: ${invalid}`
  if (name !== 'weather') return `There is no tool ${name}.`
  return JSON.stringify({ ...(given as object), celsius: 4 })
}

const model = await loadModel(source)
const messages: ChatMessage[] = [{ role: 'user', content: question }]
// A model may call tools for ever.
for (let round = 0; round < 5; round++) {
  const answer = model.streamChat(messages, { tools, maxNewTokens: 1000 })
  for await (const { content = '' } of answer) process.stdout.write(content)
  const { message, usage } = await answer.result
  console.error(`\n${usage.cachedTokens} of ${usage.promptTokens} tokens were cached`)
  messages.push(message)
  if (!message.toolCalls) break
  for (const call of message.toolCalls)
    messages.push({ role: 'tool', name: call.name, content: run(call) })
}
await model.close()
