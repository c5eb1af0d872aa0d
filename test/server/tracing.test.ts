/** Spans, as the SDK of a host program receives them. */
import { context, propagation, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api'
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks'
import { W3CTraceContextPropagator } from '@opentelemetry/core'
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  SimpleSpanProcessor,
} from '@opentelemetry/sdk-trace-base'
import type { InjectOptions } from 'fastify'
import t from 'tap'
import { loadModel, type Model } from '../../lib/index.js'
import { type Server, serve } from '../../lib/server/index.js'
import { TextTracer } from '../../lib/server/tracing.js'

const BOOKS = 'models/books-7m'
const TRACE = '0af7651916cd43dd8448eb211c80319c'
const PARENT = 'b7ad6b7169203331'
const SECRET = 'the old man'

let model: Model
t.before(async () => {
  model = await loadModel(BOOKS)
})
t.teardown(() => model.close())

const exporter = new InMemorySpanExporter()

/** Sets up what a host program does. */
function setUp(): void {
  const spanProcessors = [new SimpleSpanProcessor(exporter)]
  trace.setGlobalTracerProvider(new BasicTracerProvider({ spanProcessors }))
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable())
  propagation.setGlobalPropagator(new W3CTraceContextPropagator())
}

/** The only span of a request. */
async function spanOf(server: Server, request: string | InjectOptions) {
  exporter.reset()
  await server.app.inject(request)
  const spans = exporter.getFinishedSpans()
  if (spans.length !== 1) throw new Error(`expected 1 span, got ${spans.length}`)
  return spans[0]!
}

t.test('without an SDK nothing is recorded, and requests are answered', async t => {
  await using server = await serve(model)
  t.equal((await server.app.inject('/v1/models')).statusCode, 200)
  t.same(exporter.getFinishedSpans(), [])
})

t.test('with an SDK', async t => {
  setUp()
  await using server = await serve(model, { modelName: 'books', apiKeys: ['k'] })
  const headers = { authorization: 'Bearer k', traceparent: `00-${TRACE}-${PARENT}-01` }

  await t.test('a request is a span of the trace that its headers name', async t => {
    const payload = { prompt: SECRET }
    const span = await spanOf(server, {
      method: 'POST',
      url: '/tokenize?key=hidden',
      headers,
      payload,
    })
    t.equal(span.name, 'POST /tokenize')
    t.equal(span.kind, SpanKind.SERVER)
    t.equal(span.spanContext().traceId, TRACE)
    t.equal(span.parentSpanContext?.spanId, PARENT)
    t.same(span.attributes, {
      'http.request.method': 'POST',
      'http.route': '/tokenize',
      'http.response.status_code': 200,
      'url.scheme': 'http',
      'url.path': '/tokenize',
    })
    t.notMatch(JSON.stringify([span.attributes, span.events]), /old man|hidden|Bearer/)
  })

  await t.test('a streamed completion: model, tokens and the reason of its end', async t => {
    const payload = { prompt: SECRET, max_tokens: 6, n: 2, stream: true, ignore_eos: true }
    const request = { method: 'POST', url: '/v1/completions', headers, payload } as const
    const span = await spanOf(server, request)
    t.match(span.attributes, {
      'http.route': '/v1/completions',
      'http.response.status_code': 200,
      'gen_ai.operation.name': 'text_completion',
      'gen_ai.request.model': 'books',
      'gen_ai.usage.output_tokens': 12,
      'gen_ai.response.finish_reasons': ['length', 'length'],
    })
    const texts = await model.tokenizer.encodeAsync(SECRET)
    t.equal(span.attributes['gen_ai.usage.input_tokens'], 2 * texts.length, 'each text counts')
    t.notMatch(JSON.stringify([span.attributes, span.events]), /old man|Bearer/)
  })

  await t.test("a client's fault is no error of the server's", async t => {
    const unknown = await spanOf(server, '/a?b')
    t.equal(unknown.name, 'GET')
    t.equal(unknown.attributes['http.response.status_code'], 404)
    t.equal(unknown.status.code, SpanStatusCode.UNSET)
    const refused = await spanOf(server, '/v1/models')
    t.equal(refused.attributes['http.response.status_code'], 401)
  })

  await t.test('a handler runs in the context of its span, after its body came', async t => {
    const own = await serve(model, { modelName: 'books' })
    const tracer = new TextTracer('books')
    own.app.post('/v1/chat/completions/own', async () => {
      for (const promptTokens of [3, 4]) {
        const text = tracer.text('/v1/chat/completions')
        text.started()
        text.tokens(1)
        text.tokens(1)
        const usage = { promptTokens, generatedTokens: 2, cachedTokens: 0 }
        text.finished({ usage, finishReason: 'stop' })
      }
      trace.getTracer('host').startSpan('child').end()
      throw new Error('broken')
    })
    exporter.reset()
    await fetch(`${await own.listen({ port: 0 })}/v1/chat/completions/own`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ prompt: SECRET }),
    })
    await own.close()
    const [child, span] = exporter.getFinishedSpans()
    t.equal(child?.parentSpanContext?.spanId, span?.spanContext().spanId)
    t.match(span?.attributes, {
      'gen_ai.operation.name': 'chat',
      'gen_ai.provider.name': 'moepp',
      'gen_ai.request.model': 'books',
      'gen_ai.usage.input_tokens': 7,
      'gen_ai.usage.output_tokens': 4,
      'gen_ai.response.finish_reasons': ['stop', 'stop'],
      'error.type': '500',
    })
    t.equal(span?.status.code, SpanStatusCode.ERROR)
    t.same(
      span?.events.map(({ name }) => name),
      ['started', 'first_token', 'started', 'first_token'].map(name => `moepp.text.${name}`),
    )
  })
})
