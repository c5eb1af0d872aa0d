/** An answer in pieces, as OpenAI's API streams it. */
import type { FastifyReply } from 'fastify'
import type { ServerContext } from '../context.js'
import { requestError } from '../errors.js'
import { EventStream } from '../event-stream.js'
import type { AnswerHead, AnswerUsage } from './answer.js'

/** Sends choices, a part of each, as one event. */
export type SendChoices = (...choices: readonly object[]) => void

export interface StreamHow {
  readonly head: AnswerHead
  readonly includeUsage: boolean
  /** Until it resolves, a failure is an answer with a status; from then on it is an event. */
  readonly ready: Promise<void>
  readonly signal: AbortSignal
}

/** Streams what `work` sends. Resolves once the answer has begun. */
export async function streamAnswer(
  reply: FastifyReply,
  { options }: Pick<ServerContext, 'options'>,
  { head, includeUsage, ready, signal }: StreamHow,
  work: (send: SendChoices) => Promise<AnswerUsage>,
): Promise<FastifyReply> {
  const events = new EventStream(options.maxUnreadBytes)
  const send: SendChoices = (...choices) =>
    events.event({ ...head, choices, ...(includeUsage && { usage: null }) })
  const done = work(send)
  done.then(
    usage => {
      if (includeUsage) events.event({ ...head, choices: [], usage })
      events.end()
    },
    error => {
      const failure = requestError(error)
      const { cause } = failure.details
      if (!signal.aborted && cause !== undefined) reply.log.error({ err: cause }, failure.message)
      events.fail(failure)
    },
  )
  await Promise.race([ready, done])
  events.answer(reply)
  return reply
}
