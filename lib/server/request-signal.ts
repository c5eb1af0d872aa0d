/** The reasons that a request ends before its work does, as one signal. */
import type { FastifyReply } from 'fastify'
import type { ServerContext } from './context.js'
import { RequestError, shuttingDown } from './errors.js'
import { GRACE_MS } from './options.js'

/** The client has closed the connection: no answer can arrive. */
export class ClientGone extends Error {
  constructor() {
    super('the client closed the connection')
  }
}

/**
 * Aborts when the client goes away, at the request's deadline, or when the server cuts what still
 * runs. The reason is the error that the request ends with.
 */
export function requestSignal(
  reply: FastifyReply,
  { options, lifecycle: { cut } }: Pick<ServerContext, 'options' | 'lifecycle'>,
): AbortSignal {
  const controller = new AbortController()
  const abort = (reason: Error) => controller.abort(reason)
  const { deadlineMs } = options
  const timers = [
    setTimeout(() => abort(tooSlow(deadlineMs)), deadlineMs),
    // A client that leaves its answer unread.
    setTimeout(() => reply.raw.destroy(), deadlineMs + GRACE_MS),
  ]
  const onCut = () => abort(shuttingDown())
  if (cut.aborted) onCut()
  cut.addEventListener('abort', onCut, { once: true })
  const onClose = () => {
    for (const timer of timers) clearTimeout(timer)
    cut.removeEventListener('abort', onCut)
    if (!reply.raw.writableFinished) abort(new ClientGone())
  }
  // A hook of the host's may have waited until the client was gone.
  if (reply.raw.closed) onClose()
  else reply.raw.once('close', onClose)
  return controller.signal
}

function tooSlow(ms: number): RequestError {
  const message = `the request took longer than ${ms} ms`
  return new RequestError(504, 'timeout_error', message, { code: 'deadline_exceeded' })
}
