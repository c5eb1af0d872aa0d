/** Memory of prompt log-probabilities: the rows of all tokens are never held at once. */
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import { chatCheckpoint } from '../support/chat-checkpoint.js'
import { root } from '../support/golden.js'

const VOCAB = 150_000
const PROMPTS = 2
const TOKENS = 2047

/** Bytes that a process gains at its peak while it answers a request. */
async function peakOfRequest(source: string): Promise<number> {
  const [index, server] = ['index.js', 'server/index.js'].map(file =>
    JSON.stringify(pathToFileURL(join(root, 'dist', file)).href),
  )
  const script = `
    import { readFileSync } from 'node:fs'
    import { loadModel } from ${index}
    import { serve } from ${server}
    const bytes = name =>
      1024 * Number(readFileSync('/proc/self/status', 'utf8').split(name + ':')[1].trim().split(' ')[0])
    const model = await loadModel(${JSON.stringify(source)}, { device: 'cpu', threads: 2 })
    const server = await serve(model)
    const score = async (prompts, tokens) => {
      const prompt = Array.from({ length: prompts }, (_, p) =>
        Array.from({ length: tokens }, (_, i) => (7919 * i + 31 * p) % ${VOCAB}),
      )
      const payload = { prompt, max_tokens: 1, echo: true, logprobs: 1, temperature: 0 }
      const answer = await server.app.inject({ method: 'POST', url: '/v1/completions', payload })
      const { choices } = answer.json()
      const lengths = choices.map(({ logprobs }) => logprobs.token_logprobs.length)
      if (lengths.some(length => length !== tokens + 1)) throw new Error(lengths.join())
    }
    await score(1, 4)
    const before = bytes('VmRSS')
    await score(${PROMPTS}, ${TOKENS})
    console.log(bytes('VmHWM') - before)
    await server.close()
    await model.close()
  `
  const args = ['--input-type=module', '-e', script]
  const { stdout } = await promisify(execFile)(process.execPath, args)
  return Number(stdout)
}

t.test(
  'a request of long prompts on a large vocabulary holds a part of its logits',
  { skip: process.platform !== 'linux' && 'reads /proc' },
  async t => {
    const peak = await peakOfRequest(chatCheckpoint(t.testdir(), { vocabSize: VOCAB }))
    const all = 4 * PROMPTS * TOKENS * VOCAB
    // On a CPU a step's logits have 128 MiB at most. Without this bound the peak is twice as high.
    t.ok(peak > 0 && peak < all / 6, `${peak} of ${all} bytes`)
  },
)
