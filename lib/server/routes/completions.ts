/** /v1/completions: texts that continue prompts. */
import type { FastifyInstance } from 'fastify'
import type { GenerateResult } from '../../generation/results.js'
import type { GenerateOptions } from '../../options/generate.js'
import type { Admitted } from '../admission.js'
import type { ServerContext } from '../context.js'
import { answerHead, usageOf } from '../openai/answer.js'
import { ChoicePieces, completionChoices } from '../openai/completion-choices.js'
import { type CompletionRequest, readCompletion } from '../openai/completion-request.js'
import { inFields } from '../openai/library-errors.js'
import { type EncodedPrompt, encodePrompts } from '../openai/prompts.js'
import { type SendChoices, streamAnswer } from '../openai/stream-answer.js'
import { requestSignal } from '../request-signal.js'
import { allTexts, inTurn, readText } from '../texts.js'
import { checkModel } from './models.js'

const ROUTE = '/v1/completions'

/** A request that has been admitted. */
interface Work {
  readonly request: CompletionRequest
  readonly prompts: readonly EncodedPrompt[]
  readonly admitted: Admitted
  readonly signal: AbortSignal
}

export function completionRoutes(app: FastifyInstance, context: ServerContext): void {
  app.post(ROUTE, async ({ body }, reply) => {
    context.admission.check()
    checkModel(Object(body).model, context)
    const request = readCompletion(body, context.model)
    const work = await admit(request, requestSignal(reply, context), context)
    const { prompts } = work
    const { bestOf, includeUsage } = request
    const head = answerHead('cmpl', 'text_completion', context)
    const usage = (results: readonly GenerateResult[]) =>
      usageOf(
        results.map(result => result.usage),
        bestOf,
      )
    if (request.stream) {
      const how = { head, includeUsage, ready: Promise.resolve() }
      return streamAnswer(reply, context, how, async send => usage(await run(work, context, send)))
    }
    const results = await run(work, context)
    const choices = completionChoices(request, prompts, results, context.model.tokenizer)
    return { ...head, choices, usage: usage(results) }
  })
}

/** @throws RequestError 400, 429; the signal's reason */
async function admit(
  request: CompletionRequest,
  signal: AbortSignal,
  { model, admission }: ServerContext,
): Promise<Work> {
  const { addSpecialTokens, maxTokens, bestOf } = request
  // A context without room for a token would be cut at none, and clients count on one.
  const room = Math.min(maxTokens, 1)
  const prompts = await encodePrompts(request.prompts, model, { addSpecialTokens, room, signal })
  signal.throwIfAborted()
  const lengths = prompts.map(({ ids }) => Math.min(ids.length + maxTokens, model.contextLength))
  const tokens = bestOf * lengths.reduce((sum, length) => sum + length, 0)
  const admitted = admission.admit({ texts: bestOf * prompts.length, tokens })
  return { request, prompts, admitted, signal }
}

/**
 * The results of all texts, those of each prompt one behind the other. `send` gets the choices in
 * pieces.
 */
async function run(
  { request, prompts, admitted, signal }: Work,
  { model, observer }: ServerContext,
  send?: SendChoices,
): Promise<GenerateResult[]> {
  const { bestOf } = request
  const observers = Array.from({ length: bestOf * prompts.length }, () => observer.text(ROUTE))
  try {
    return await allTexts(observers.length, signal, async (i, signal) => {
      await inTurn(admitted.turn(i), signal)
      const seen = observers[i]!
      seen.started()
      const prompt = prompts[Math.floor(i / bestOf)]!
      const options = { ...textOptions(request, i % bestOf, observer.wantsRouting), signal }
      try {
        if (!send) {
          const stream = model.stream(prompt.ids, { ...options, ...promptOptions(request) })
          return await readText(stream, seen, signal)
        }
        const pieces = new ChoicePieces(request, prompt, i, model.tokenizer)
        if (request.echo) {
          // The prompt's log-probabilities come first, so they are asked for alone.
          const alone = { ...promptOptions(request), maxNewTokens: 0, signal }
          const isWanted = request.logprobs !== undefined
          const result = isWanted ? await model.generate(prompt.ids, alone) : undefined
          signal.throwIfAborted()
          send(pieces.echo(result?.promptLogprobs))
        }
        const stream = model.stream(prompt.ids, options)
        const result = await readText(stream, seen, signal, chunk => send(pieces.chunk(chunk)))
        send(pieces.end(result))
        return result
      } finally {
        admitted.leave(i)
      }
    })
  } catch (error) {
    throw inFields(error, request.grammar?.place)
  } finally {
    admitted[Symbol.dispose]()
  }
}

/** The options of the text `i` of a prompt. */
function textOptions(
  { options, seed, logprobs, n, bestOf }: CompletionRequest,
  i: number,
  wantsRouting: boolean,
): GenerateOptions {
  return {
    ...options,
    seed: seed === undefined ? undefined : seed + i,
    // The best ones are found by them.
    logprobs: logprobs ?? (bestOf > n ? 0 : undefined),
    ...(wantsRouting && { routing: 'counts' }),
  }
}

function promptOptions({ echo, logprobs, promptLogprobs }: CompletionRequest): GenerateOptions {
  const counts = [echo ? logprobs : undefined, promptLogprobs].filter(count => count !== undefined)
  return counts.length > 0 ? { promptLogprobs: Math.max(...counts) } : {}
}
