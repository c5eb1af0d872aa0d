/** Metrics, against traffic whose figures are known. */
import t from 'tap'
import type { ModelStats } from '../../lib/engine/stats.js'
import type { Model } from '../../lib/index.js'
import { loadModel } from '../../lib/index.js'
import { Admission } from '../../lib/server/admission.js'
import { serve } from '../../lib/server/index.js'
import { Metrics } from '../../lib/server/metrics/metrics.js'
import { namesOf, parseScrape } from './scrape.js'

const BOOKS = 'models/books-7m'
const LIMITS = { maxRunning: 1, maxQueued: 7, maxQueuedTokens: 1000 }

const STATS: ModelStats = {
  waiting: 2,
  running: 3,
  kvPageSize: 64,
  kvPagesTotal: 10,
  kvPagesUsed: 5,
  kvPagesCached: 2,
  kvPagesShared: 1,
  prefixHits: 1,
  prefixTokens: 30,
  preemptions: 4,
  promptTokens: 70,
  generatedTokens: 20,
  draftedTokens: 6,
  acceptedTokens: 5,
  steps: 4,
  lastStepTokens: 1,
  lastStepSequences: 1,
  stepTokens: { counts: [1, 0, 3], sum: 11 },
  stepSequences: { counts: [3, 1], sum: 5 },
  uptimeMs: 1,
}

function metricsOf(stats: () => ModelStats, admission = new Admission(LIMITS), layers = 10) {
  const model = { stats, config: { layers, topK: 3 } } as unknown as Model
  return new Metrics(model, admission, 'a"b')
}

const read = async (metrics: Metrics) => parseScrape(await metrics.scrape())

t.test("the engine's figures are those of the time of the scrape", async t => {
  let stats = STATS
  const admission = new Admission(LIMITS)
  const metrics = metricsOf(() => stats, admission)
  using _ = admission.admit({ texts: 3, tokens: 90 })
  const expected = {
    moepp_prompt_tokens_total: 70,
    moepp_generation_tokens_total: 20,
    moepp_prefix_cache_queries_total: 100,
    moepp_prefix_cache_hits_total: 30,
    moepp_num_preemptions_total: 4,
    moepp_spec_decode_num_draft_tokens_total: 6,
    moepp_spec_decode_num_accepted_tokens_total: 5,
    moepp_num_requests_running: 3,
    moepp_num_requests_waiting: 4,
    moepp_queue_tokens: 60,
    moepp_queue_limit: 7,
    moepp_kv_cache_usage_perc: 0.5,
    'moepp_kv_cache_pages{state="used"}': 5,
    'moepp_kv_cache_pages{state="cached"}': 2,
    'moepp_kv_cache_pages{state="free"}': 3,
    'moepp_iteration_tokens_total_bucket{le="1"}': 1,
    'moepp_iteration_tokens_total_bucket{le="2"}': 1,
    'moepp_iteration_tokens_total_bucket{le="4"}': 4,
    'moepp_iteration_tokens_total_bucket{le="16384"}': 4,
    'moepp_iteration_tokens_total_bucket{le="+Inf"}': 4,
    moepp_iteration_tokens_total_sum: 11,
    moepp_iteration_tokens_total_count: 4,
    'moepp_iteration_sequences_bucket{le="1"}': 3,
    moepp_iteration_sequences_sum: 5,
  }
  const scrape = await read(metrics)
  for (const [series, value] of Object.entries(expected)) t.equal(scrape.get(series), value, series)
  stats = { ...STATS, promptTokens: 71, kvPagesUsed: 0, kvPagesCached: 7 }
  const [first, second] = await Promise.all([read(metrics), read(metrics)])
  for (const later of [first, second]) {
    t.equal(later.get('moepp_prompt_tokens_total'), 71)
    t.equal(later.get('moepp_kv_cache_usage_perc'), 0)
  }
})

t.test('a text: its times are ordered, its lengths and FFN experts are counted', async t => {
  const metrics = metricsOf(() => STATS)
  const text = metrics.text('/v1/completions')
  text.started()
  text.tokens(0)
  text.tokens(1)
  text.tokens(3)
  text.tokens(0)
  text.finished({
    usage: { promptTokens: 5, generatedTokens: 4, cachedTokens: 0 },
    finishReason: 'stop',
    routing: {
      first: 0,
      tokens: 8,
      layers: [],
      ffnExpertsPerToken: 1,
      counts: [
        { layer: 0, tokens: [1, 2, 3, 2] },
        { layer: 2, tokens: [0, 8, 0, 0] },
        { layer: 9, tokens: [0, 0, 0, 8] },
      ],
    },
  })
  // Refused or failed: it waits only.
  metrics.text('/v1/completions')
  const scrape = await read(metrics)
  const route = 'route="/v1/completions"'
  const sum = (name: string) => scrape.get(`moepp_${name}_sum{${route}}`)!
  const count = (name: string) => scrape.get(`moepp_${name}_count{${route}}`)
  t.equal(scrape.get(`moepp_request_success_total{${route},finished_reason="stop"}`), 1)
  t.equal(sum('request_prompt_tokens'), 5)
  t.equal(sum('request_generation_tokens'), 4)
  t.equal(count('time_to_first_token_seconds'), 1)
  t.equal(count('inter_token_latency_seconds'), 3)
  t.equal(count('e2e_request_latency_seconds'), 1)
  t.equal(count('request_queue_time_seconds'), 1)
  t.ok(sum('request_queue_time_seconds') <= sum('time_to_first_token_seconds'))
  t.ok(sum('time_to_first_token_seconds') <= sum('e2e_request_latency_seconds'))
  const experts = (rest: string) => scrape.get(`moepp_ffn_experts_per_token${rest}`)
  // Ten layers are groups of three, and the last alone.
  t.equal(experts('_count{layers="0-2"}'), 16)
  t.equal(experts('_sum{layers="0-2"}'), 2 + 6 + 6 + 8)
  t.equal(experts('_bucket{layers="0-2",le="0"}'), 1)
  t.equal(experts('_bucket{layers="0-2",le="1"}'), 11)
  t.equal(experts('_bucket{layers="0-2",le="3"}'), 16)
  t.equal(experts('_count{layers="3-5"}'), 0)
  t.equal(experts('_sum{layers="9-9"}'), 24)
})

t.test('layers fall into four groups at most, without gaps', async t => {
  for (const layers of [1, 2, 3, 4, 5, 9, 32, 47]) {
    const scrape = await read(metricsOf(() => STATS, undefined, layers))
    const series = [...scrape.keys()].filter(key => key.includes('ffn_experts_per_token_count'))
    const ranges = series.map(key => /"(\d+)-(\d+)"/.exec(key)!.slice(1).map(Number))
    t.ok(ranges.length <= 4, `${layers}`)
    const all = ranges.flatMap(([from = 0, to = 0]) =>
      Array.from({ length: to - from + 1 }, (_, i) => from + i),
    )
    t.same(all, [...Array(layers).keys()])
  }
})

t.test('a server', async t => {
  await using model = await loadModel(BOOKS)

  await t.test('counts requests by route and status; no path becomes a label', async t => {
    await using server = await serve(model, { modelName: 'books' })
    const { app } = server
    await app.inject({ method: 'POST', url: '/tokenize?secret=1', payload: { prompt: 'a' } })
    await app.inject({ method: 'POST', url: '/tokenize', payload: { prompt: 1 } })
    for (const path of ['/a', '/b', '/v1/models/x', '/v1/models/y']) await app.inject(path)
    const { body, headers, statusCode } = await app.inject('/metrics')
    t.equal(statusCode, 200)
    t.match(headers['content-type'], /^text\/plain; version=0\.0\.4/)
    const scrape = parseScrape(body)
    const requests = (method: string, route: string, status: number) =>
      scrape.get(
        `moepp_http_requests_total{method="${method}",route="${route}",status="${status}"}`,
      )
    t.equal(requests('POST', '/tokenize', 200), 1)
    t.equal(requests('POST', '/tokenize', 400), 1)
    t.equal(requests('GET', 'unknown', 404), 2)
    t.equal(requests('GET', '/v1/models/*', 404), 2)
    t.notMatch(body, /secret/)
    t.match(body, 'model_name="books"')
    for (const name of ['process_resident_memory_bytes', 'nodejs_eventloop_lag_p99_seconds'])
      t.ok(namesOf(scrape).has(name), name)
    t.equal(body.match(/^# TYPE process_resident_memory_bytes/gm)?.length, 1)
  })

  await t.test('two servers of one process have figures of their own', async t => {
    await using first = await serve(model, { modelName: 'first' })
    await using second = await serve(model, { modelName: 'second' })
    await first.app.inject('/v1/models')
    const { body } = await second.app.inject('/metrics')
    t.notMatch(body, 'route="/v1/models"')
    t.notMatch(body, 'model_name="first"')
  })

  await t.test('keys guard it, and it answers while the server drains', async t => {
    await using server = await serve(model, { apiKeys: ['k'] })
    t.equal((await server.app.inject('/metrics')).statusCode, 401)
    const headers = { authorization: 'Bearer k' }
    t.equal((await server.app.inject({ url: '/metrics', headers })).statusCode, 200)
  })

  await t.test('without metrics there is no route', async t => {
    await using server = await serve(model, { metrics: false })
    t.equal((await server.app.inject('/metrics')).statusCode, 404)
  })
})
