/** A conversation's keys and values, to a file and into another model of the same checkpoint. */
import { join } from 'node:path'
import t from 'tap'
import { type ChatMessage, loadModel } from '../../lib/index.js'
import { chatCheckpoint } from '../support/chat-checkpoint.js'

t.test('the next turn of a conversation that was saved', async t => {
  const folder = t.testdir()
  const source = chatCheckpoint(folder)
  const file = join(folder, 'state')
  const first = await loadModel(source, { kvCacheTokens: 1024 })
  const messages: ChatMessage[] = [{ role: 'user', content: 'Say anything.' }]
  const { message, usage } = await first.chat(messages, {
    maxNewTokens: 30,
    temperature: 1,
    seed: 1,
  })
  messages.push(message)
  const saved = await first.saveState(file, messages)
  t.equal(saved.tokens, usage.promptTokens + usage.generatedTokens)
  t.equal(saved.cachedTokens, saved.tokens - 1, 'the last token was never computed')
  messages.push({ role: 'user', content: 'And now?' })
  const expected = await first.chat(messages, { maxNewTokens: 10 })
  await first.close()

  const second = await loadModel(source, { kvCacheTokens: 1024 })
  await second.loadState(file)
  const conversation = JSON.parse(JSON.stringify(messages)) as ChatMessage[]
  const next = await second.chat(conversation, { maxNewTokens: 10 })
  t.strictSame(next.tokenIds, expected.tokenIds)
  t.equal(next.usage.cachedTokens, saved.tokens)
  await second.close()
})

t.test('wrong conversations', async t => {
  const folder = t.testdir()
  const model = await loadModel(chatCheckpoint(folder))
  const file = join(folder, 'state')
  const save = (prompt: unknown, options: object = {}) =>
    model.saveState(file, prompt as ChatMessage[], options)
  await t.rejects(save([{ content: 'x' }]), /^messages\[0\]\.role/)
  await t.rejects(save([{ role: 'user', content: 'x' }], { chat: { tools: 1 } }), /^tools/)
  await t.rejects(save([{ role: 'user', content: 'x' }], { chat: { x: 1 } }), /unknown option "x"/)
  const signal = AbortSignal.abort()
  const aborted = save([{ role: 'user', content: 'x' }], { signal })
  await t.rejects(aborted, { code: 'ERR_ABORTED' })
  await model.close()
})
