/** The HTTP application: its limits, its hooks and its routes. */
import { randomUUID } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import fastify, {
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  LogController,
} from 'fastify'
import { keyCheck } from './authorization.js'
import type { ServerContext } from './context.js'
import { RequestError, requestError, shuttingDown } from './errors.js'
import { parseJsonBodies } from './json-body.js'
import type { ResolvedServeOptions } from './options.js'
import type { Peers } from './peers.js'
import { onRequestEnd, type RequestEnd } from './request-end.js'
import { ClientGone } from './request-signal.js'
import { chatRoutes } from './routes/chat.js'
import { completionRoutes } from './routes/completions.js'
import { healthRoutes } from './routes/health.js'
import { metricsRoutes } from './routes/metrics.js'
import { modelRoutes } from './routes/models.js'
import { pageRoutes } from './routes/page.js'
import { tokenizeRoutes } from './routes/tokenize.js'

/** A client gets so long to send its request, headers and body. */
const RECEIVE_MS = 60_000

export async function createApp(
  context: ServerContext,
  { cors, tracing }: Pick<Peers, 'cors' | 'tracing'>,
): Promise<FastifyInstance> {
  const { options, metrics } = context
  const app = newFastify(options)
  parseJsonBodies(app)
  handleErrors(app)
  closeWithConnections(app)
  logRequests(app, options)
  const count: RequestEnd | undefined =
    metrics &&
    ((request, _, status) => metrics.countRequest(request.method, routeOf(request), status))
  onRequestEnd(app, [logEnd, count, tracing?.traceRequests(app)])
  if (cors) {
    const [first] = options.corsOrigins
    await app.register(cors.default, {
      origin: first === '*' ? '*' : [...options.corsOrigins],
      // Clients in a page wait and report by them.
      exposedHeaders: ['x-request-id', 'retry-after'],
    })
  }
  healthRoutes(app, context)
  if (options.page) pageRoutes(app)
  if (metrics) metricsRoutes(app, metrics, options)
  // In a scope of their own: health and the page, which asks for a key, need none.
  await app.register(async api => {
    guard(api, context)
    modelRoutes(api, context)
    tokenizeRoutes(api, context)
    completionRoutes(api, context)
    chatRoutes(api, context)
  })
  return app
}

function newFastify({ maxBodyBytes, logLevel }: ResolvedServeOptions): FastifyInstance {
  return fastify({
    bodyLimit: maxBodyBytes,
    requestTimeout: RECEIVE_MS,
    forceCloseConnections: 'idle',
    genReqId: requestId,
    frameworkErrors: answerError,
    // For names of models.
    routerOptions: { maxParamLength: 500 },
    logger: logLevel === 'silent' ? false : { level: logLevel },
    logController: new LogController({ disableRequestLogging: true, requestIdLogLabel: 'id' }),
  })
}

/** The client's own, if it is fit for a log. */
function requestId({ headers }: IncomingMessage): string {
  const given = headers['x-request-id']
  return typeof given === 'string' && /^[\w.:-]{1,128}$/.test(given) ? given : randomUUID()
}

/** One line a request, and its headers and body if they are wanted. */
function logRequests(app: FastifyInstance, { logBodies }: ResolvedServeOptions): void {
  if (logBodies)
    app.addHook('preHandler', async ({ log, headers: { authorization: _, ...headers }, body }) => {
      log.info({ headers, body }, 'request')
    })
  app.addHook('onRequest', async ({ id }, reply) => {
    reply.header('x-request-id', id)
  })
}

const logEnd: RequestEnd = (request, { elapsedTime: ms }, status) => {
  const { log, method } = request
  log.info({ method, route: routeOf(request), status, ms }, 'response')
}

/** Its pattern, never a path: paths are without number. */
function routeOf({ routeOptions: { url } }: FastifyRequest): string {
  return url ?? 'unknown'
}

/**
 * An answer that waits behind another on its connection hears of no end of it from Node, and the
 * work for it would go on.
 */
function closeWithConnections(app: FastifyInstance): void {
  app.addHook('onRequest', async ({ raw: { socket } }, { raw }) => {
    const close = () => {
      if (!raw.closed) raw.emit('close')
    }
    socket.setMaxListeners(0).once('close', close)
    raw.once('close', () => socket.off('close', close))
  })
}

/** Every failure is answered in one form. */
function handleErrors(app: FastifyInstance): void {
  app.setErrorHandler(answerError)
  app.setNotFoundHandler(({ method, url }) => {
    const path = url.split('?')[0]
    throw new RequestError(404, 'not_found_error', `there is no ${method} ${path}`)
  })
}

/** The cause of an internal error is logged, and not sent. */
function answerError(error: unknown, { log }: FastifyRequest, reply: FastifyReply): void {
  // No answer arrives, and a stream that breaks off for that reason is no failure.
  if (error instanceof ClientGone || reply.raw.closed) {
    reply.send()
    return
  }
  const failure = requestError(error)
  const { retryAfterSeconds, cause } = failure.details
  if (cause !== undefined) log.error({ err: cause }, failure.message)
  if (failure.status === 401) reply.header('www-authenticate', 'Bearer')
  if (retryAfterSeconds !== undefined) reply.header('retry-after', retryAfterSeconds)
  reply.code(failure.status).send(failure.body)
}

/** New requests need a key, and a server that takes them. */
function guard(api: FastifyInstance, { options, lifecycle }: ServerContext): void {
  const checkKey = keyCheck(options.apiKeys)
  api.addHook('onRequest', async (request, reply) => {
    if (lifecycle.isDraining) throw shuttingDown()
    lifecycle.add(reply.raw)
    checkKey(request)
  })
}
