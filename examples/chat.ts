// A conversation in the terminal: the program adds your line to the text so far, and the model goes
// on. Ctrl-C ends an answer early. At the prompt it ends the program.
//
//   node examples/chat.ts [model]
import { createInterface } from 'node:readline'
import { loadModel } from 'moepp'

const model = await loadModel(process.argv[2] ?? 'models/books-7m')
const terminal = createInterface({ input: process.stdin, output: process.stdout, prompt: '> ' })

let answering: AbortController | undefined
const interrupt = () => (answering ? answering.abort() : terminal.close())
terminal.on('SIGINT', interrupt)
process.on('SIGINT', interrupt)

let text = ''
terminal.prompt()
for await (const line of terminal) {
  text += text === '' ? line : `\n${line}`
  // The last 768 tokens: a prompt and its answer must fit into the context.
  const prompt = model.tokenizer.encode(text).slice(-768)
  answering = new AbortController()
  const options = { temperature: 0.8, maxNewTokens: 200, stop: '\n', signal: answering.signal }
  for await (const chunk of model.stream(prompt, options)) {
    process.stdout.write(chunk.text)
    text += chunk.text
  }
  console.log(answering.signal.aborted ? ' [stopped]' : '')
  answering = undefined
  terminal.prompt()
}
await model.close()
