/** Texts that a KV cache cannot hold together come out as each does alone. */
import t from 'tap'
import { loadModel } from '../../lib/index.js'
import { goldenCase, ONE_OF_EACH_FAMILY } from '../support/golden.js'

for (const [family, name] of ONE_OF_EACH_FAMILY) {
  t.test(`${family}/${name}`, async t => {
    const load = (kvCacheTokens: number) =>
      loadModel(goldenCase(name, family), { device: 'cpu', kvCacheTokens })
    await using roomy = await load(1024)
    // A text grows from one page of 64 tokens to three. Six pages let three texts begin.
    await using tight = await load(384)
    const { vocabSize } = roomy.config
    const prompts = Array.from({ length: 6 }, (_, i) =>
      Array.from({ length: 50 + i }, (_, k) => (31 * i + 17 * k + 3) % vocabSize),
    )
    const options = { maxNewTokens: 100, ignoreEos: true, temperature: 0, logprobs: 1 }
    const together = await tight.generate(prompts, options)
    t.ok(tight.stats().preemptions > 0, 'some were preempted')
    for (const [i, prompt] of prompts.entries()) {
      const alone = await roomy.generate(prompt, options)
      t.same(together[i]!.tokenIds, alone.tokenIds, `text ${i}`)
      t.same(together[i]!.logprobs, alone.logprobs, `text ${i}: the same bits`)
    }
    t.equal(roomy.stats().preemptions, 0)
  })
}
