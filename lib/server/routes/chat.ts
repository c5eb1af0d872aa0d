/** /v1/chat/completions: answers to conversations. */
import type { FastifyInstance } from 'fastify'
import type { ChatResult } from '../../generation/chat-results.js'
import { JoinedRouting } from '../../generation/routing.js'
import type { CallLoad } from '../../options/admission.js'
import type { Admitted } from '../admission.js'
import type { ServerContext } from '../context.js'
import type { TextObserver } from '../observer.js'
import { answerHead, usageOf } from '../openai/answer.js'
import { ChatChoice } from '../openai/chat-choices.js'
import { type ChatRequest, readChat } from '../openai/chat-request.js'
import { inFields } from '../openai/library-errors.js'
import { promptLogprobsById } from '../openai/prompt-logprobs.js'
import { hasOnlyRouting, type Told } from '../openai/routing.js'
import { type Reader, streamAnswer } from '../openai/stream-answer.js'
import { requestSignal } from '../request-signal.js'
import { allTexts, inTurn, readText } from '../texts.js'
import { checkModel } from './models.js'

const ROUTE = '/v1/chat/completions'

export function chatRoutes(app: FastifyInstance, context: ServerContext): void {
  const { admission, model } = context
  app.post(ROUTE, async ({ body }, reply) => {
    admission.check()
    checkModel(Object(body).model, context)
    const request = readChat(body, model)
    const { n, stream, includeUsage, returnRouting, promptLogprobs } = request
    const signal = requestSignal(reply, context)
    const object = stream ? 'chat.completion.chunk' : 'chat.completion'
    const head = answerHead('chatcmpl', object, context)
    const choices = Array.from(
      { length: n },
      (_, i) => new ChatChoice(i, model.tokenizer, returnRouting),
    )
    const usage = (results: readonly ChatResult[]) => usageOf(results, n, returnRouting)
    if (stream)
      return streamAnswer(reply, context, { head, includeUsage, signal }, async reader =>
        usage(await run(request, choices, signal, context, reader)),
      )
    const results = await run(request, choices, signal, context)
    return {
      ...head,
      choices: choices.map((choice, i) => choice.whole(results[i]!)),
      usage: usage(results),
      ...(promptLogprobs !== undefined && {
        prompt_logprobs: promptLogprobsById(results[0]!, promptLogprobs, model.tokenizer),
      }),
    }
  })
}

/** The results of all choices. */
async function run(
  { messages, options, seed, promptLogprobs, returnRouting, grammar }: ChatRequest,
  choices: readonly ChatChoice[],
  signal: AbortSignal,
  { model, admission, observer }: ServerContext,
  reader?: Reader,
): Promise<(ChatResult & Told)[]> {
  let admitted: Admitted | undefined
  let observers: readonly TextObserver[] = []
  /** The first text whose prompt is known has all of them admitted: they have the same prompt. */
  const admitAll = ({ promptTokens, maxNewTokens }: CallLoad): Admitted => {
    if (admitted) return admitted
    const tokens = choices.length * (promptTokens + maxNewTokens)
    admitted = admission.admit({ texts: choices.length, tokens })
    observers = choices.map(() => observer.text(ROUTE))
    for (const choice of choices) reader?.send(choice.start())
    reader?.begin()
    return admitted
  }
  try {
    return await allTexts(choices.length, signal, async (i, signal) => {
      const stream = model.streamChat(messages, {
        ...options,
        seed: seed === undefined ? undefined : seed + i,
        promptLogprobs: i === 0 ? promptLogprobs : undefined,
        ...((returnRouting || observer.wantsRouting) && { routing: 'counts' }),
        signal,
        admit: async load => {
          await inTurn(admitAll(load).turn(i), signal)
          observers[i]!.started()
        },
      })
      const choice = choices[i]!
      const told = returnRouting && !reader ? new JoinedRouting() : undefined
      try {
        const result = await readText(stream, signal, chunk => {
          observers[i]!.tokens(chunk.tokenIds.length)
          told?.add(chunk.routing)
          if (returnRouting || !hasOnlyRouting(chunk)) reader?.send(choice.chunk(chunk))
        })
        observers[i]!.finished(result)
        reader?.send(choice.end(result))
        return { ...result, told: told?.take() }
      } finally {
        admitted?.leave(i)
      }
    })
  } catch (error) {
    throw inFields(error, grammar?.place)
  } finally {
    // A text that failed before has a place, too.
    admitted?.[Symbol.dispose]()
  }
}
