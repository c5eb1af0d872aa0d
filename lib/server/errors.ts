/** Failures of requests, in the form of OpenAI's API. */
import { MoeppError, type MoeppErrorCode } from '../errors.js'

/** The kinds of failures, by the names of OpenAI's API. */
type ErrorType =
  | 'invalid_request_error'
  | 'authentication_error'
  | 'not_found_error'
  | 'rate_limit_error'
  | 'server_error'
  | 'service_unavailable_error'
  | 'timeout_error'

interface Details {
  /** The field of the request that is at fault: `messages[2].role`. */
  readonly param?: string
  readonly code?: string
  /** Further fields of the body's `error`. */
  readonly further?: Readonly<Record<string, number | string>>
  /** For the header Retry-After. */
  readonly retryAfterSeconds?: number
  readonly cause?: unknown
}

/** The body of every answer that is an error. */
export interface ErrorBody {
  readonly error: {
    readonly message: string
    readonly type: ErrorType
    readonly param: string | null
    readonly code: string | null
    readonly [further: string]: number | string | null
  }
}

/** A failure with the status and the body of its answer. */
export class RequestError extends Error {
  override readonly name = 'RequestError'
  readonly status: number
  readonly type: ErrorType
  readonly details: Details

  constructor(status: number, type: ErrorType, message: string, details: Details = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    this.status = status
    this.type = type
    this.details = details
  }

  get body(): ErrorBody {
    const { param = null, code = null, further } = this.details
    return { error: { message: this.message, type: this.type, param, code, ...further } }
  }
}

/** A wrong field of a request. */
export function badField(param: string, message: string): RequestError {
  return new RequestError(400, 'invalid_request_error', `${param}: ${message}`, { param })
}

/** A prompt of more tokens than the context holds. */
export function promptTooLong(
  message: string,
  { got, most }: { readonly got: number; readonly most: number },
  param = 'prompt',
): RequestError {
  // Clients know the failure by these words of OpenAI's.
  const known = `this model's maximum context length is ${most} tokens`
  return new RequestError(400, 'invalid_request_error', `${message}; ${known}`, {
    param,
    code: 'context_length_exceeded',
    further: { n_prompt_tokens: got, n_ctx: most },
  })
}

/** A request that ends because the server does. */
export function shuttingDown(): RequestError {
  return new RequestError(503, 'service_unavailable_error', 'the server is shutting down', {
    code: 'shutting_down',
    retryAfterSeconds: 1,
  })
}

/** Codes that are the request's fault, and the field that is at fault where there is one alone. */
const OF_REQUESTS: Partial<Record<MoeppErrorCode, string>> = {
  ERR_BAD_PROMPT: 'prompt',
  ERR_BAD_TEMPLATE: 'messages',
  ERR_BAD_GRAMMAR: 'response_format',
}

const NO_CHAT = 'this model has no chat template: /v1/completions continues texts'

/** Any error as the failure that the client sees. `cause` is for the log alone. */
export function requestError(error: unknown): RequestError {
  if (error instanceof RequestError) return error
  if (error instanceof MoeppError) return ofModel(error)
  if (isHttpError(error)) {
    const type = error.statusCode === 404 ? 'not_found_error' : 'invalid_request_error'
    return new RequestError(error.statusCode, type, error.message, { code: error.code })
  }
  return new RequestError(500, 'server_error', 'internal error', { cause: error })
}

function ofModel(error: MoeppError): RequestError {
  const { code, message, tokens } = error
  if (code === 'ERR_BAD_PROMPT' && tokens) return promptTooLong(message, tokens)
  // The library's words tell of its functions, and of a file of the server's.
  if (code === 'ERR_NO_CHAT_TEMPLATE')
    return new RequestError(400, 'invalid_request_error', NO_CHAT, { param: 'messages', code })
  const param = OF_REQUESTS[code]
  if (param) {
    const words = message.replace(/^\S*[/\\]\S*: /, '')
    return new RequestError(400, 'invalid_request_error', words, { param, code })
  }
  if (code === 'ERR_CLOSED') return shuttingDown()
  const details = { code, cause: error }
  if (code === 'ERR_OUT_OF_MEMORY')
    return new RequestError(503, 'service_unavailable_error', 'the model has no memory for this', {
      ...details,
      retryAfterSeconds: 1,
    })
  return new RequestError(500, 'server_error', 'the model failed', details)
}

interface HttpError extends Error {
  readonly statusCode: number
  readonly code: string
}

/** An error of fastify's that the client has caused. */
function isHttpError(error: unknown): error is HttpError {
  const { statusCode } = error as Partial<HttpError>
  return error instanceof Error && statusCode !== undefined && statusCode >= 400 && statusCode < 500
}
