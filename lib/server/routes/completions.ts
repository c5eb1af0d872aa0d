/** /v1/completions: texts that continue prompts. */
import type { FastifyInstance } from 'fastify'
import type { Model } from '../../generation/model.js'
import type { GenerateResult } from '../../generation/results.js'
import { JoinedRouting } from '../../generation/routing.js'
import type { GenerateOptions } from '../../options/generate.js'
import type { Admitted } from '../admission.js'
import type { ServerContext } from '../context.js'
import { answerHead, usageOf } from '../openai/answer.js'
import { ChoicePieces, completionChoices } from '../openai/completion-choices.js'
import { type CompletionRequest, readCompletion } from '../openai/completion-request.js'
import { inFields } from '../openai/library-errors.js'
import { type EncodedPrompt, encodePrompts } from '../openai/prompts.js'
import { hasOnlyRouting, type Told } from '../openai/routing.js'
import { checkLogprobs } from '../openai/sampling-fields.js'
import { type Reader, streamAnswer } from '../openai/stream-answer.js'
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
    const signal = requestSignal(reply, context)
    const work = await admit(request, signal, context)
    const { prompts } = work
    const { bestOf, includeUsage, returnRouting } = request
    const head = answerHead('cmpl', 'text_completion', context)
    const usage = (results: readonly GenerateResult[]) => usageOf(results, bestOf, returnRouting)
    if (request.stream)
      return streamAnswer(reply, context, { head, includeUsage, signal }, async reader =>
        usage(await run(work, context, reader)),
      )
    const results = await run(work, context)
    const choices = await completionChoices(request, prompts, results, context.model.tokenizer)
    return { ...head, choices, usage: usage(results) }
  })
}

/** @throws RequestError 400, 429; the signal's reason */
async function admit(
  request: CompletionRequest,
  signal: AbortSignal,
  { model, admission }: ServerContext,
): Promise<Work> {
  const { addSpecialTokens, maxTokens, bestOf, logprobs, promptLogprobs } = request
  const texts = bestOf * request.prompts.length
  // Before the prompts take time.
  admission.checkCount(texts)
  // A context without room for a token would be cut at none, and clients count on one.
  const room = Math.min(maxTokens, 1)
  const prompts = await encodePrompts(request.prompts, model, { addSpecialTokens, room, signal })
  signal.throwIfAborted()
  const lengths = prompts.map(({ ids }) => Math.min(ids.length + maxTokens, model.contextLength))
  const tokens = bestOf * lengths.reduce((sum, length) => sum + length, 0)
  checkLogprobs(tokens, { logprobs, prompt_logprobs: promptLogprobs })
  const admitted = admission.admit({ texts, tokens })
  return { request, prompts, admitted, signal }
}

/**
 * The results of all texts, those of each prompt one behind the other. `reader` gets the choices
 * in pieces. The texts of a prompt share its log-probabilities: the first result has them.
 */
async function run(
  { request, prompts, admitted, signal }: Work,
  { model, observer }: ServerContext,
  reader?: Reader,
): Promise<(GenerateResult & Told)[]> {
  const { bestOf, returnRouting } = request
  const observers = Array.from({ length: bestOf * prompts.length }, () => observer.text(ROUTE))
  const echoes: ReturnType<typeof echoed>[] = []
  try {
    return await allTexts(observers.length, signal, async (i, signal) => {
      try {
        const seen = observers[i]!
        const p = Math.floor(i / bestOf)
        const prompt = prompts[p]!
        const pieces = reader && new ChoicePieces(request, prompt, i, model.tokenizer)
        const options = {
          ...textOptions(request, i % bestOf, returnRouting || observer.wantsRouting),
          ...(!reader && i % bestOf === 0 && promptOptions(request)),
          signal,
          admit: async () => {
            reader?.begin()
            await inTurn(admitted.turn(i), signal)
            seen.started()
            if (!pieces || !request.echo) return
            // In pieces the prompt comes first, so its log-probabilities are asked for alone.
            echoes[p] ??= echoed(request, prompt, model, signal)
            reader.send(pieces.echo(await echoes[p]))
          },
        }
        const told = returnRouting && !reader ? new JoinedRouting() : undefined
        const result = await readText(model.stream(prompt.ids, options), signal, chunk => {
          seen.tokens(chunk.tokenIds.length)
          told?.add(chunk.routing)
          if (pieces && (returnRouting || !hasOnlyRouting(chunk))) reader.send(pieces.chunk(chunk))
        })
        seen.finished(result)
        if (pieces) reader.send(pieces.end(result))
        return { ...result, told: told?.take() }
      } finally {
        admitted.leave(i)
      }
    })
  } catch (error) {
    throw inFields(error, request.grammar?.place)
  }
}

/** The log-probabilities of a prompt, if they are wanted. */
async function echoed(
  request: CompletionRequest,
  { ids }: EncodedPrompt,
  model: Model,
  signal: AbortSignal,
): Promise<GenerateResult['promptLogprobs']> {
  if (request.logprobs === undefined) return undefined
  const options = { ...promptOptions(request), maxNewTokens: 0, signal }
  const { promptLogprobs } = await model.generate(ids, options)
  signal.throwIfAborted()
  return promptLogprobs
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
