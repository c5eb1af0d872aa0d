/**
 * A span for each request, by OpenTelemetry's conventions for HTTP and for generative AI. They go
 * where the host program has set up an SDK, and nowhere otherwise. They hold no text.
 */
import {
  type Context,
  context,
  propagation,
  type Span,
  SpanKind,
  SpanStatusCode,
  trace,
} from '@opentelemetry/api'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { FinishReason } from '../generation/results.js'
import type { Observer, TextObserver } from './observer.js'
import type { RequestEnd } from './request-end.js'

const OPERATIONS: Readonly<Record<string, string>> = {
  '/v1/completions': 'text_completion',
  '/v1/chat/completions': 'chat',
}

/**
 * Begins the spans, and returns what ends them. A handler runs in the context of its request's
 * span.
 */
export function traceRequests(app: FastifyInstance): RequestEnd {
  const tracer = trace.getTracer('moepp')
  const contexts = new WeakMap<FastifyRequest, Context>()
  app.addHook('onRequest', async request => {
    const { method, headers, protocol, routeOptions, url } = request
    const route = routeOptions.url
    const parent = propagation.extract(context.active(), headers)
    const attributes = {
      'http.request.method': method,
      'url.scheme': protocol,
      'url.path': url.split('?')[0]!,
      ...(route === undefined ? {} : { 'http.route': route }),
    }
    const name = route === undefined ? method : `${method} ${route}`
    const span = tracer.startSpan(name, { kind: SpanKind.SERVER, attributes }, parent)
    contexts.set(request, trace.setSpan(parent, span))
  })
  // Not before: reading a body leaves the context.
  app.addHook('preHandler', (request, _reply, done) => {
    context.with(contexts.get(request) ?? context.active(), done)
  })
  return (request, _reply, status) => {
    const span = trace.getSpan(contexts.get(request) ?? context.active())
    span?.setAttribute('http.response.status_code', status)
    if (status >= 500) {
      span?.setAttribute('error.type', String(status))
      span?.setStatus({ code: SpanStatusCode.ERROR })
    }
    span?.end()
  }
}

/** The texts of a request that have ended. */
interface Texts {
  inputTokens: number
  outputTokens: number
  readonly finishReasons: FinishReason[]
}

/** Adds to the spans what they say of the texts of their requests. */
export class TextTracer implements Observer {
  readonly wantsRouting = false
  readonly #texts = new WeakMap<Span, Texts>()
  readonly #modelName: string

  constructor(modelName: string) {
    this.#modelName = modelName
  }

  text(route: string): TextObserver {
    const span = trace.getActiveSpan()
    if (!span?.isRecording()) return NOTHING
    const texts = this.#texts.get(span) ?? this.#begin(span, route)
    let hasTokens = false
    return {
      started: () => void span.addEvent('moepp.text.started'),
      tokens: count => {
        if (!hasTokens && count > 0) span.addEvent('moepp.text.first_token')
        hasTokens ||= count > 0
      },
      finished: ({ usage, finishReason }) => {
        texts.inputTokens += usage.promptTokens
        texts.outputTokens += usage.generatedTokens
        texts.finishReasons.push(finishReason)
        span.setAttributes({
          'gen_ai.usage.input_tokens': texts.inputTokens,
          'gen_ai.usage.output_tokens': texts.outputTokens,
          'gen_ai.response.finish_reasons': [...texts.finishReasons],
        })
      },
    }
  }

  #begin(span: Span, route: string): Texts {
    span.setAttributes({
      'gen_ai.operation.name': OPERATIONS[route] ?? 'generate_content',
      'gen_ai.provider.name': 'moepp',
      'gen_ai.request.model': this.#modelName,
    })
    const texts = { inputTokens: 0, outputTokens: 0, finishReasons: [] }
    this.#texts.set(span, texts)
    return texts
  }
}

const nothing = () => {}
const NOTHING: TextObserver = { started: nothing, tokens: nothing, finished: nothing }
