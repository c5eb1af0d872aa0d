/** The options of a server, and their checks. */
import { show } from '../base/json.js'
import { boolean, checkAll, integer, oneOf, text } from '../base/option-checks.js'

/**
 * The least severe lines that a server logs, by the names of pino.
 *
 * @example
 * ```ts
 * import type { LogLevel } from 'moepp/server'
 *
 * const level: LogLevel = process.env.NODE_ENV === 'production' ? 'info' : 'debug'
 * console.log(level)
 * ```
 */
export type LogLevel = 'silent' | 'fatal' | 'error' | 'warn' | 'info' | 'debug' | 'trace'

/**
 * Options of `serve`. An option that is undefined counts as not given.
 *
 * @example
 * ```ts
 * import { loadModel } from 'moepp'
 * import { type ServeOptions, serve } from 'moepp/server'
 *
 * const options: ServeOptions = { modelName: 'books-7m', maxQueued: 100, logLevel: 'info' }
 * const model = await loadModel('npm:moepp-books-7m')
 * const server = await serve(model, options)
 * await server.close()
 * await model.close()
 * ```
 */
export interface ServeOptions {
  /** Name of the model in requests and answers. Default 'moepp'. */
  modelName?: string
  /** Keys that requests may bear, `Authorization: Bearer ...`. Default none: all are served. */
  apiKeys?: readonly string[]
  /** Origins whose pages may read answers; '*' is any. Default none. */
  corsOrigins?: readonly string[]
  /** Most texts that are computed at a time, >= 1. Default 64. */
  maxRunning?: number
  /** Most texts that wait for their turn, >= 0. More are refused with status 429. Default 256. */
  maxQueued?: number
  /**
   * Most tokens of the texts that wait: their prompts, and what they may generate. Default
   * 4,000,000.
   */
  maxQueuedTokens?: number
  /** Milliseconds that a request may take, its time in the queue included. Default 600,000. */
  deadlineMs?: number
  /** Milliseconds that running requests get to end when the server closes. Default 30,000. */
  drainMs?: number
  /** Most bytes of a request's body. Default 8 MiB. */
  maxBodyBytes?: number
  /**
   * Most bytes of a stream that wait for its reader, before the request is cancelled. Default
   * 1 MiB.
   */
  maxUnreadBytes?: number
  /** Serve metrics for Prometheus at /metrics. Default true. */
  metrics?: boolean
  /** Serve the playground at /. Default true. */
  page?: boolean
  /** Default 'silent'. At 'info' there is a line for each request, without its headers and body. */
  logLevel?: LogLevel
  /** Log the headers, but for keys, and bodies of requests, at level 'info'. Default false. */
  logBodies?: boolean
}

export type ResolvedServeOptions = Readonly<Required<ServeOptions>>

/** Milliseconds that a request which is cut has to write its end, and its client to read it. */
export const GRACE_MS = 1000

/** A timer takes 2^31 - 1, and there is one for the end of the grace. */
const MOST_MS = 2 ** 31 - 1 - GRACE_MS

const checks = {
  modelName: text,
  apiKeys: texts,
  corsOrigins: origins,
  maxRunning: integer(1),
  maxQueued: integer(0),
  maxQueuedTokens: integer(0),
  deadlineMs: integer(1, MOST_MS),
  drainMs: integer(0, MOST_MS),
  maxBodyBytes: integer(1),
  maxUnreadBytes: integer(1),
  metrics: boolean,
  page: boolean,
  logLevel: oneOf('silent', 'fatal', 'error', 'warn', 'info', 'debug', 'trace'),
  logBodies: boolean,
}

const DEFAULTS: ResolvedServeOptions = {
  modelName: 'moepp',
  apiKeys: [],
  corsOrigins: [],
  maxRunning: 64,
  maxQueued: 256,
  maxQueuedTokens: 4_000_000,
  deadlineMs: 600_000,
  drainMs: 30_000,
  maxBodyBytes: 8 * 2 ** 20,
  maxUnreadBytes: 2 ** 20,
  metrics: true,
  page: true,
  logLevel: 'silent',
  logBodies: false,
}

/** @throws TypeError, RangeError */
export function resolveServeOptions(options: ServeOptions): ResolvedServeOptions {
  return Object.freeze({ ...DEFAULTS, ...checkAll(options, checks, undefined) })
}

/** As browsers send it: in lower case, without a path. Another spelling would never match. */
const ORIGIN = /^[a-z][a-z\d+.-]*:\/\/[^\s/A-Z]+$/

function origins(value: unknown, name: string): readonly string[] {
  const given = texts(value, name)
  given.forEach((each, i) => {
    if (ORIGIN.test(each) || (each === '*' && given.length === 1)) return
    const expected = "an origin such as https://a.example:8443, or '*' alone"
    throw new TypeError(`${name}[${i}]: expected ${expected}, got ${show(each)}`)
  })
  return given
}

/** No message shows the values: keys are secrets. */
function texts(value: unknown, name: string): readonly string[] {
  if (!Array.isArray(value)) throw new TypeError(`${name}: expected an array, got ${show(value)}`)
  value.forEach((each, i) => {
    if (typeof each !== 'string' || each === '') {
      const got = each === '' ? '""' : `a value of type ${typeof each}`
      throw new TypeError(`${name}[${i}]: expected a string that is not empty, got ${got}`)
    }
  })
  return Object.freeze([...value])
}
