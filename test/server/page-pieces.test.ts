/** The page's tokens: texts, probabilities, requests, times. */
import t from 'tap'
import { Experts } from '../../lib/server/page/experts.js'
import { Meter } from '../../lib/server/page/meter.js'
import {
  ffnExpertsOf,
  Pieces,
  percent,
  probabilityOf,
  type Score,
  visible,
} from '../../lib/server/page/pieces.js'
import { chatBody, completionBody, stopStrings } from '../../lib/server/page/requests.js'

const score = (token: string, logprob = -1): Score => ({ token, logprob, top: [] })

/** Texts with the tokens of each, of parts that come one after the other. */
function cut(...parts: [text: string, tokens: string[]][]): [string, string[]][] {
  const pieces = new Pieces()
  return parts.flatMap(([text, tokens]) =>
    pieces
      .add(
        text,
        tokens.map(token => score(token)),
      )
      .map(({ text, scores }): [string, string[]] => [text, scores.map(({ token }) => token)]),
  )
}

t.test('pieces are the text of their tokens', async t => {
  const halves = ['bytes:\\xf0\\x9f', 'bytes:\\x98\\x80']
  for (const [what, got, expected] of [
    [
      'one by one',
      cut(['a', ['a']], [' b', [' b']]),
      [
        ['a', ['a']],
        [' b', [' b']],
      ],
    ],
    [
      'several at once',
      cut(['a b', ['a', ' b']]),
      [
        ['a', ['a']],
        [' b', [' b']],
      ],
    ],
    ['no tokens', cut(['a b', []]), [['a b', []]]],
    ['a character of two', cut(['😀', halves]), [['😀', halves]]],
    ['whose text comes late', cut(['', ['x1']], ['😀', ['x2']]), [['😀', ['x1', 'x2']]]],
    [
      'and before others',
      cut(['😀 b', [...halves, ' b']]),
      [
        ['😀', halves],
        [' b', [' b']],
      ],
    ],
    [
      'text held back',
      cut(['a', ['a', ' b']], [' b', []]),
      [
        ['a', ['a']],
        [' b', [' b']],
      ],
    ],
    ['a token without text', cut(['a', ['<s>', 'a']]), [['a', ['a']]]],
    ['empty token', cut(['a', ['', 'a']]), [['a', ['a']]]],
    ['cut by a stop string', cut(['he', ['hello']]), [['he', ['hello']]]],
    [
      'repeated',
      cut(['aaa', ['a', 'a', 'a']]),
      [
        ['a', ['a']],
        ['a', ['a']],
        ['a', ['a']],
      ],
    ],
    ['other text first', cut(['xa', ['a']]), [['xa', ['a']]]],
  ] as const)
    t.same(got, expected, what)
})

t.test('pieces together are the text, whatever the tokens are', async t => {
  let state = 1
  const random = (below: number) => {
    state = (state * 48271) % 2147483647
    return state % below
  }
  const word = () => Array.from({ length: random(4) }, () => 'ab 😀'[random(4)]).join('')
  const wrong: string[][] = []
  for (let i = 0; i < 500; i++) {
    const pieces = new Pieces()
    let text = ''
    let joined = ''
    for (let part = 0; part < 4; part++) {
      const next = word()
      text += next
      const scores = Array.from({ length: random(4) }, () => score(word()))
      for (const piece of pieces.add(next, scores)) joined += piece.text
    }
    if (joined !== text) wrong.push([joined, text])
  }
  t.same(wrong, [])
})

t.test('skip forgets what waits', async t => {
  const pieces = new Pieces()
  pieces.add('', [score('call')])
  pieces.skip()
  t.same(pieces.add('call', []), [{ text: 'call', scores: [] }])
})

t.test('probabilities in words', async t => {
  t.equal(probabilityOf({ text: 'a', scores: [] }), undefined)
  t.equal(
    probabilityOf({ text: 'a', scores: [score('a', -1), score('b', -2)] }),
    Math.exp(-3),
    'of two tokens: the product',
  )
  for (const [probability, text] of [
    [1, '100 %'],
    [0.97, '97 %'],
    [0.031, '3.1 %'],
    [0.0042, '0.42 %'],
    [1e-9, '<0.01 %'],
    [0, '0 %'],
  ] as const)
    t.equal(percent(probability), text)
  t.equal(visible(' a\n\t\r'), '␣a⏎⇥␍')
})

t.test('requests have the settings that are set', async t => {
  const settings = { stop: [], system: '', probabilities: false, experts: false }
  const common = { model: 'm', stream: true, stream_options: { include_usage: true } }
  const plain = (body: object) => JSON.parse(JSON.stringify(body))
  t.same(plain(completionBody('m', 'p', settings)), { ...common, prompt: 'p' })
  const messages = [{ role: 'user', content: 'p' }] as const
  t.same(plain(chatBody('m', messages, settings)), { ...common, messages })
  const all = {
    temperature: 0,
    seed: 1,
    maxTokens: 2,
    stop: ['x'],
    system: 's',
    probabilities: true,
    experts: false,
  }
  const set = { temperature: 0, seed: 1, stop: ['x'] }
  t.same(plain(completionBody('m', 'p', all)), {
    ...{ ...common, ...set },
    prompt: 'p',
    max_tokens: 2,
    logprobs: 5,
  })
  t.same(plain(chatBody('m', messages, all)), {
    ...{ ...common, ...set },
    messages: [{ role: 'system', content: 's' }, ...messages],
    max_completion_tokens: 2,
    logprobs: true,
    top_logprobs: 5,
  })
  const routed = { ...settings, experts: true }
  t.same(
    plain(completionBody('m', 'p', routed)),
    { ...common, prompt: 'p', logprobs: 0, return_routing: true },
    'log-probabilities say where tokens end',
  )
  t.match(chatBody('m', messages, routed), { logprobs: true, top_logprobs: 0 })
  t.match(chatBody('m', messages, { ...all, experts: true }), {
    top_logprobs: 5,
    return_routing: true,
  })
  t.same(stopStrings('END\n\n\\n\\n\\t\\\\n\\x'), ['END', '\n\n\t\\n\\x'])
})

t.test('FFN experts come one chunk late', async t => {
  const experts = new Experts()
  const routing = (first: number, ...ffnExperts: number[]) => ({
    first,
    promptTokens: 5,
    ffnExperts,
  })
  const [a, b, c, d] = ['a', 'b', 'c', 'd'].map(token => score(token)) as [
    Score,
    Score,
    Score,
    Score,
  ]
  t.same(experts.add([a], routing(2, 4, 4, 4)), [], 'of the prompt')
  t.same(experts.add([b, c], routing(5, 1)), [a])
  t.same(experts.add([], undefined), [])
  t.same(experts.add([d], routing(6, 2, 3)), [b, c])
  t.same(
    [a, b, c, d].map(({ ffnExperts }) => ffnExperts),
    [1, 2, 3, undefined],
  )
  t.equal(ffnExpertsOf({ text: 'bc', scores: [b, c] }), 2.5)
  t.equal(ffnExpertsOf({ text: 'cd', scores: [c, d] }), 3, 'of those that are known')
  t.equal(ffnExpertsOf({ text: 'd', scores: [d] }), undefined)
  experts.begin()
  const next = score('e')
  experts.add([next], undefined)
  t.same(experts.add([], routing(5, 7)), [next], 'another request')
  t.equal(a.ffnExperts, 1)
})

t.test('times', async t => {
  let now = 0
  const meter = new Meter(() => now)
  const empty = { promptTokens: 3, tokens: 0, ffnExpertsPerToken: undefined }
  t.equal(meter.summary(empty, 'length'), '3 + 0 tokens · cut at the limit of tokens')
  now = 500
  meter.part(2)
  now = 2500
  meter.part(0)
  t.equal(
    meter.summary(undefined, 'stopped'),
    '3 tokens · 1.0 tokens/s · first after 0.50 s · stopped',
  )
  const usage = { promptTokens: 3, tokens: 5, ffnExpertsPerToken: 1.4375 }
  t.equal(
    meter.summary(usage, 'stop'),
    '3 + 5 tokens · 2.0 tokens/s · first after 0.50 s · 1.44 FFN experts per token · ended by itself',
  )
  t.match(meter.summary({ ...usage, tokens: 1 }, 'other'), /^3 \+ 1 token · first .* · other$/)
})
