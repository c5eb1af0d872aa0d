/** An answer in pieces, as OpenAI's API streams it. */
import type { FastifyReply } from 'fastify'
import type { ServerContext } from '../context.js'
import { requestError } from '../errors.js'
import { EventStream } from '../event-stream.js'
import type { AnswerHead, AnswerUsage } from './answer.js'

/** The client, who gets an answer piece by piece. */
export interface Reader {
  /** Until it is called, a failure is an answer with a status; from then on it is an event. */
  begin(): void
  /** Sends a part of a choice. */
  send(choice: object): void
}

export interface StreamHow {
  readonly head: AnswerHead
  readonly includeUsage: boolean
  readonly signal: AbortSignal
}

/** Streams what `work` sends. Resolves once the answer has begun. */
export async function streamAnswer(
  reply: FastifyReply,
  { options }: Pick<ServerContext, 'options'>,
  { head, includeUsage, signal }: StreamHow,
  work: (reader: Reader) => Promise<AnswerUsage>,
): Promise<FastifyReply> {
  const events = new EventStream(options.maxUnreadBytes)
  const send = (choice: object) =>
    events.event({ ...head, choices: [choice], ...(includeUsage && { usage: null }) })
  let begin = () => {}
  const begun = new Promise<void>(resolve => {
    begin = resolve
  })
  const done = work({ begin, send })
  await Promise.race([begun, done])
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
  events.answer(reply)
  return reply
}
