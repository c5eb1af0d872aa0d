/**
 * Python's Jinja and @huggingface/jinja give different results here. The texts are those of jinja2
 * 3.1.6, in the environment of transformers.
 */
import t from 'tap'
import { ChatTemplate } from '../../lib/template/chat-template.js'

const variables = {
  text: '  Héllo wörld\n',
  n: 7,
  negative: -7,
  none: null,
  list: [3, 1, 'b'],
  dict: { b: 1, items: 'I', é: null },
  objects: [
    { name: 'B', v: 1 },
    { name: 'a', v: 2 },
  ],
  html: '<a & "b">',
  emoji: 'a😀b',
}

const CASES: readonly (readonly [source: string, text: string])[] = [
  ["{{ text.strip('\\n') }}|", '  Héllo wörld|'],
  ["{{ text.rstrip('d\\n') }}|{{ text.lstrip() }}", '  Héllo wörl|Héllo wörld\n'],
  ["{{ '\\ufeffa\\x85'.strip() }}", '\ufeffa'],
  ["{{ 'a,b,c'.rsplit(',', 1) }}{{ ' a  b '.split() }}", "['a,b', 'c']['a', 'b']"],
  ["{{ ', '.join(['a', 'b']) }}{{ 'aBC'.capitalize() }}", 'a, bAbc'],
  ['{{ none }}{{ true }}{{ list }}', "NoneTrue[3, 1, 'b']"],
  ['{{ dict }}', "{'b': 1, 'items': 'I', 'é': None}"],
  ['{{ ["it\'s", "\\n", "\\x00"] }}', "[\"it's\", '\\n', '\\x00']"],
  [
    '{{ html | tojson }}{{ emoji | tojson(ensure_ascii=true) }}',
    '"<a & \\"b\\">""a\\ud83d\\ude00b"',
  ],
  ['{{ dict | tojson(indent=2) }}', '{\n  "b": 1,\n  "items": "I",\n  "é": null\n}'],
  ["{{ dict | tojson(separators=(',', ':'), sort_keys=true) }}", '{"b":1,"items":"I","é":null}'],
  ['{{ emoji | length }}{{ emoji[1] }}{{ emoji[::-1] }}', '3😀b😀a'],
  ["{{ 1 == '1' }}{{ 1 == true }}{{ [1] == [1] }}{{ none == x }}", 'FalseTrueTrueFalse'],
  ["{{ 'a' ~ none ~ x ~ true }}", 'aNoneTrue'],
  ['{{ negative % 3 }}{{ negative // 2 }}{{ 7 / 7 }}', '2-41.0'],
  ['{{ dict.items is callable }}{{ dict["items"] }}', 'TrueI'],
  ['{% for k, v in dict.items() %}{{ k }}{% endfor %}', 'bitemsé'],
  [
    '{% for c in emoji %}{{ c }},{% endfor %}{% for x in y %}{% else %}none{% endfor %}',
    'a,😀,b,none',
  ],
  ['{% for x in [1, 2] %}{{ y is defined }}{% set y = x %}{% endfor %}', 'FalseFalse'],
  ['{% for x in [1, 2, 3] %}{{ x }}{% if x == 2 %}B{% break %}{% endif %}c{% endfor %}', '1c2B'],
  [
    '{% macro m() %}{{ x is defined }}{% endmacro %}{% for x in [1] %}{{ m() }}{% endfor %}',
    'False',
  ],
  ["{{ objects | selectattr('v', 'equalto', 1) | map(attribute='name') | join }}", 'B'],
  ["{{ ['a', 'b'] | map('upper') | list }}{{ list | first }}{{ [] | first }}", "['A', 'B']3"],
  ["{{ 'x' | int(5) }}{{ 2.7 | int }}{{ -2.7 | int }}{{ '2.5' | float }}", '52-22.5'],
  ["{{ y | default('q') }}{{ none | default('q') }}{{ '' | d('q', true) }}", 'qNoneq'],
  ['a\r\n{% if true %}\r\nb{% endif %}', 'a\nb'],
]

const FAULTS: readonly string[] = [
  "{{ 'a' + none }}",
  "{{ 'a' + 1 }}",
  "{{ 'a' in none }}",
  '{{ x.y }}',
  '{{ x + 1 }}',
  '{{ x | tojson }}',
  "{{ 1 < 'a' }}",
  '{{ 1 / 0 }}',
  '{% for x in none %}{% endfor %}',
  '{{ list.append(1) }}',
  '{{ dict.update({}) }}',
]

const render = (source: string, more: object = {}) =>
  new ChatTemplate({ templates: new Map([['default', source]]), file: 'f', tokens: {} }).render(
    [],
    { ...variables, ...more },
  )

t.test('results', async t => {
  for (const [source, text] of CASES) t.equal(await render(source), text, source)
})

t.test('faults', async t => {
  for (const source of FAULTS) await t.rejects(render(source), { code: 'ERR_BAD_TEMPLATE' }, source)
})

t.test('numbers', async t => {
  const numbers: readonly (readonly [value: number, text: string])[] = [
    [1e21, '1e+21'],
    [-0, '-0.0'],
    [1.5e-7, '1.5e-07'],
    [0.00001, '1e-05'],
    [0.0001, '0.0001'],
    [5e-324, '5e-324'],
    [1.7e300, '1.7e+300'],
    [123456789012, '123456789012'],
    [1e20, '100000000000000000000'],
    [0.1 + 0.2, '0.30000000000000004'],
  ]
  for (const [x, text] of numbers)
    t.equal(await render('{{ x }}{{ x | tojson }}', { x }), text + text)
  t.equal(await render('{{ x }}', { x: JSON.parse('1.0') }), '1', 'JavaScript has one kind of 1')
})
