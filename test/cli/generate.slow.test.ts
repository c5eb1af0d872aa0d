import { once } from 'node:events'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { figuresLine, jsonDocument } from '../../lib/cli/generate-report.js'
import type { GenerateResult } from '../../lib/generation/results.js'
import { loadTokenizer } from '../../lib/tokenizer/tokenizer.js'
import { readJson } from '../support/golden.js'
import { BOOKS, finish, runCli, startCli } from './run-cli.js'
import { runHere } from './run-here.js'

const NOTICE = /^moepp: books-7m is a demonstration: 7 million parameters, trained on old books\n/
const FIGURES =
  /moepp: 4 prompt tokens at [\d,.]+ tokens\/s, \d+ generated( at [\d,.]+ tokens\/s)?, [0-2](\.\d+)? of 2 FFN experts per token\n$/

t.test('text goes to standard output, notice and figures to standard error', async t => {
  const args = [
    'generate',
    '--model',
    BOOKS,
    '--temperature',
    '0.8',
    '--seed',
    '1',
    '--max-new-tokens',
    '20',
  ]
  const first = await runCli([...args, 'The old man'])
  t.equal(first.code, 0)
  t.match(first.stdout, /^[^\0]{20,}\n$/)
  t.match(first.stderr, NOTICE)
  t.match(first.stderr, FIGURES)
  const echoed = await runCli([...args, '--echo'])
  t.equal(
    echoed.stdout,
    `The old man${first.stdout}`,
    'the default prompt, the same seed, the prompt before the text',
  )
})

t.test('--json gives the reference continuation', async t => {
  const { greedy } = readJson<{ greedy: { prompt: string; prompt_ids: number[]; ids: number[] } }>(
    join(BOOKS, 'reference.json'),
  )
  const flags = [
    '--dtype',
    'float32',
    '--max-new-tokens',
    '64',
    '--ignore-eos',
    '--logprobs',
    '2',
    '--json',
  ]
  const { code, stdout } = await runCli(['generate', greedy.prompt, '--model', BOOKS, ...flags])
  t.equal(code, 0)
  const result = JSON.parse(stdout)
  t.same(result.tokenIds, greedy.ids)
  t.equal(result.prompt, greedy.prompt)
  t.equal(result.finishReason, 'length')
  t.same(result.usage, {
    promptTokens: greedy.prompt_ids.length,
    generatedTokens: 64,
    cachedTokens: 0,
  })
  t.ok(result.timings.decodeTokensPerSecond > 0)
  t.ok(result.ffnExpertsPerToken > 0.5 && result.ffnExpertsPerToken < 2)
  t.equal(result.logprobs.length, 64)
  t.equal(result.logprobs[0].top.length, 2)
  t.notOk('routing' in result)
})

t.test('the prompt from standard input, without its last line break', async t => {
  const args = ['generate', '--model', BOOKS, '--max-new-tokens', '3', '--json']
  const { stdout } = await runCli([...args, '-'], { input: 'The old man\n' })
  const { prompt, tokenIds } = JSON.parse(stdout)
  t.equal(prompt, 'The old man')
  const given = JSON.parse((await runCli([...args, 'The old man'])).stdout)
  t.same(tokenIds, given.tokenIds)
})

t.test('several texts', async t => {
  const args = ['generate', '--model', BOOKS, '--temperature', '0.8', '--num-return-sequences', '2']
  const plain = await runCli([...args, '--max-new-tokens', '5'])
  t.match(plain.stdout, /^\[1\] .*\n\n\[2\] .*\n$/s)
  t.match(plain.stderr, /8 prompt tokens/)
  const json = JSON.parse(
    (await runCli([...args, '--max-new-tokens', '5', '--json', '--routing'])).stdout,
  )
  t.equal(json.results.length, 2)
  t.equal(json.results[0].routing.layers.length, 6)
  const { first, tokens, layers } = json.results[0].routing
  t.equal(first, 0)
  t.equal(layers[5].layer, 5)
  t.equal(layers[5].kinds.length, 12)
  t.equal(layers[5].expertIndices.length, layers[5].topK * tokens)
})

t.test('a reader that leaves is no failure', async t => {
  const child = startCli(['generate', '--model', BOOKS, '--max-new-tokens', '3000', '--ignore-eos'])
  child.stdout.once('data', () => child.stdout.destroy())
  const exit = once(child, 'exit')
  const stderr = await text(child.stderr)
  t.same(await exit, [0, null])
  t.match(stderr, NOTICE)
  t.equal(stderr.split('\n').length, 2, 'the notice and nothing else')
})

t.test('text that ends a line is not given another line break', async t => {
  const args = ['generate', '--model', BOOKS, '--max-new-tokens', '1']
  const newline = (await loadTokenizer(BOOKS)).encode('\n', { addSpecialTokens: false }).at(-1)
  args.push('--logit-bias', `${newline}=100`)
  for (const more of [[], ['--echo']]) {
    const { code, stdout } = await runHere([...args, ...more])
    t.equal(code, 0)
    t.equal(stdout, more.length > 0 ? 'The old man\n' : '\n')
  }
})

t.test('Ctrl-C ends the text and still gives the figures', async t => {
  const child = startCli(['generate', '--model', BOOKS, '--max-new-tokens', '4000', '--ignore-eos'])
  child.stdout.once('data', () => child.kill('SIGINT'))
  const { code, stdout, stderr } = await finish(child)
  t.equal(code, 130)
  t.match(stdout, /\n$/)
  t.match(stderr, FIGURES)
  const generated = Number(/(\d[\d,]*) generated/.exec(stderr)![1]!.replaceAll(',', ''))
  t.ok(generated < 4000, `${generated} tokens`)
})

t.test('failures of the model are typed', async t => {
  const long = await runCli([
    'generate',
    '--model',
    BOOKS,
    '--context-length',
    '2',
    'a long prompt',
  ])
  t.equal(long.code, 1)
  t.match(
    long.stderr,
    /moepp: ERR_BAD_PROMPT: prompt: has (at least )?\d+ tokens, but the context holds 2\n$/,
  )
  const device = await runCli(['generate', '--model', BOOKS, '--device', 'cuda:99'])
  t.equal(device.code, 1)
  t.match(device.stderr, /^moepp: ERR_(UNSUPPORTED|NO_GPU): cuda:99: /)
})

function result(
  promptTokens: number,
  generatedTokens: number,
  tokens: number,
  ffnExpertsPerToken: number,
): GenerateResult {
  return {
    text: 'x',
    tokenIds: [],
    finishReason: 'stop',
    usage: { promptTokens, generatedTokens, cachedTokens: 0 },
    timings: {
      queueMs: 0,
      prefillMs: 10,
      decodeMs: 100,
      prefillTokensPerSecond: 0,
      decodeTokensPerSecond: 0,
    },
    routing: { first: 0, tokens, ffnExpertsPerToken, layers: [], counts: [] },
  }
}

t.test(
  'the figures of several results: times of the slowest, experts weighted by tokens',
  async t => {
    const results = [result(10, 101, 110, 1), result(10, 51, 55, 1.3)]
    const expected =
      '20 prompt tokens at 2,000 tokens/s, 152 generated at 1,500 tokens/s, 1.1 of 2 FFN experts per token'
    t.equal(figuresLine(results, { topK: 2 }), expected)
    t.equal(
      figuresLine([result(3, 1, 0, 0)], { topK: 2 }),
      '3 prompt tokens at 300 tokens/s, 1 generated, 0 of 2 FFN experts per token',
    )
    t.match(jsonDocument('m', 'p', [results[0]!], false), {
      model: 'm',
      prompt: 'p',
      text: 'x',
      ffnExpertsPerToken: 1,
    })
  },
)
