/** `moepp demo` in a checkout: the model that the package is made of. */
import t from 'tap'
import { runCli } from './run-cli.js'

t.test('continues the prompt, then the figures', async t => {
  const { code, stdout, stderr } = await runCli(['demo', 'The whale'])
  t.equal(code, 0)
  t.match(stdout, /^The whale[\s\S]{40,}\n$/)
  t.match(stderr, /^moepp: \d+ prompt tokens.* 128 generated.*\n$/)
})

t.test('samples: two texts differ', async t => {
  const [first, second] = await Promise.all([runCli(['demo']), runCli(['demo'])])
  t.match(first!.stdout, /^The old man/)
  t.not(first!.stdout, second!.stdout)
})
