/** Expected values are from CPython 3.11's random.Random(seed). */
import t from 'tap'
import { PythonRandom } from '../../lib/evaluate/python-random.js'

const range = (n: number) => Array.from({ length: n }, (_, i) => i)

t.test('numbers of a seed, before and after the state is made anew', t => {
  for (const [seed, first, later] of [
    [0, [0.8444218515250481, 0.7579544029403025, 0.420571580830845], 0.7119066573597548],
    [1, [0.13436424411240122, 0.8474337369372327, 0.763774618976614], 0.8013676781661853],
    [1234, [0.9664535356921388, 0.4407325991753527, 0.007491470058587191], 0.5257050878840226],
    [
      2 ** 32 - 1,
      [0.6353574441341173, 0.20319993954407756, 0.6073666030347188],
      0.32677497691741464,
    ],
  ] as const) {
    const random = new PythonRandom(seed)
    t.same([random.random(), random.random(), random.random()], first)
    random.sample(range(40), 5)
    random.sample(range(40), 5)
    random.sample(range(25), 25)
    random.sample(range(1000), 6)
    for (const k of [1, 3, 9]) random.sample(range(9), k)
    random.random()
    random.sample(range(1 << 16), 40)
    for (let i = 0; i < 700; i++) random.random()
    t.equal(random.random(), later)
  }
  t.end()
})

t.test('samples of short and of long lists', t => {
  const random = new PythonRandom(1234)
  for (let i = 0; i < 3; i++) random.random()
  t.same(random.sample(range(40), 5), [37, 2, 5, 6, 22])
  t.same(random.sample(range(40), 5), [15, 1, 22, 39, 30])
  const all = [
    19, 14, 4, 2, 5, 3, 0, 16, 15, 7, 1, 10, 8, 17, 23, 9, 13, 18, 21, 22, 11, 6, 12, 24, 20,
  ]
  t.same(random.sample(range(25), 25), all)
  t.same(random.sample(range(1000), 6), [255, 671, 955, 204, 464, 897])
  t.same(random.sample(range(9), 1), [8])
  t.same(random.sample(range(9), 3), [0, 1, 8])
  t.same(random.sample(range(9), 9), [5, 2, 8, 3, 6, 1, 0, 7, 4])
  random.random()
  t.same(random.sample(range(1 << 16), 40).slice(-3), [13512, 63596, 49390])
  t.end()
})
