/** The Grafana dashboard and the adapter's rule, against a scrape after some traffic. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { parse } from 'yaml'
import { loadModel } from '../../lib/index.js'
import { serve } from '../../lib/server/index.js'
import { root } from '../support/golden.js'
import { parsePromql } from './promql.js'
import { namesOf, parseScrape } from './scrape.js'

interface Panel {
  readonly id: number
  readonly title: string
  readonly type: string
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number }
  readonly targets?: readonly { readonly expr: string }[]
}

const example = (...path: string[]) => readFileSync(join(root, 'examples', ...path), 'utf8')
const dashboard = JSON.parse(example('observability', 'dashboard.json'))
const panels: Panel[] = dashboard.panels
const variables: { name: string; query: { query?: string } }[] = dashboard.templating.list

/** Grafana's own variable is a duration; those of the dashboard are texts. */
const filled = (expr: string) => expr.replace(/\$__rate_interval/g, '1m')
const expressions = panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => filled(expr)))

/** A scrape after texts that ended, and one that was refused. */
async function traffic(): Promise<string> {
  await using model = await loadModel('models/books-7m')
  await using server = await serve(model, { modelName: 'books' })
  const complete = (payload: object) =>
    server.app.inject({ method: 'POST', url: '/v1/completions', payload })
  for (const prompt of ['The old man', 'The old man and the sea']) {
    const { statusCode, body } = await complete({ prompt, max_tokens: 8 })
    if (statusCode !== 200) throw new Error(body)
  }
  await complete({ prompt: 'a', max_tokens: -1 })
  return (await server.app.inject('/metrics')).body
}

t.test('every metric and label of the dashboard occurs in a scrape', async t => {
  const body = await traffic()
  const scrape = parseScrape(body)
  const names = namesOf(scrape)
  // Prometheus adds it.
  const labels = new Set(['instance'])
  for (const [, label] of body.matchAll(/[{,](\w+)="/g)) labels.add(label!)
  t.ok(expressions.length > 30)
  for (const expression of expressions) {
    const asked = parsePromql(expression)
    t.ok(asked.metrics.size > 0, expression)
    for (const name of asked.metrics) t.ok(names.has(name), name)
    for (const label of asked.labels) t.ok(labels.has(label), label)
  }

  const shown = expressions.join(' ')
  const families = [...body.matchAll(/^# TYPE (moepp_\w+)/gm)].map(([, name]) => name!)
  t.ok(families.length > 20)
  for (const family of families) t.ok(shown.includes(family), `${family} is on the dashboard`)

  const [rule] = parse(example('kubernetes', 'prometheus-adapter-values.yaml')).rules.custom
  for (const name of parsePromql(rule.seriesQuery).metrics) t.ok(names.has(name), name)
  const count = (series: string) => scrape.get(`moepp_${series}`)
  t.equal(count('request_success_total{route="/v1/completions",finished_reason="length"}'), 2)
  t.equal(count('http_requests_total{method="POST",route="/v1/completions",status="400"}'), 1)
  t.ok(count('prefix_cache_hits_total')! > 0)
  t.equal(count('num_requests_running'), 0)
  t.equal(count('kv_cache_pages{state="used"}'), 0)
  const layers = [...scrape.keys()].filter(key => key.includes('ffn_experts_per_token_count'))
  t.ok(layers.length > 0)
  for (const key of layers) t.ok(scrape.get(key)! > 0, key)
})

t.test('the parser finds faults', async t => {
  t.throws(() => parsePromql('sum by (le (rate(a[1m]))'), /wrong at column/)
  t.throws(() => parsePromql('sum(rate(a[1m])'), /wrong at column/)
})

t.test('the dashboard: variables are declared, panels do not overlap', async t => {
  const declared = new Set(variables.map(({ name }) => name))
  const used = [...example('observability', 'dashboard.json').matchAll(/\$\{?([a-z]\w*)/g)]
  for (const [, name = ''] of used) t.ok(declared.has(name), name)
  t.equal(new Set(panels.map(({ id }) => id)).size, panels.length)
  const places = panels.map(({ gridPos: { x, y } }) => `${x},${y}`)
  t.equal(new Set(places).size, panels.length)
  for (const { gridPos, title } of panels) t.ok(gridPos.x + gridPos.w <= 24, title)
})
