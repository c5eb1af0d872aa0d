/** The tokenizer, as vLLM serves it and lm-evaluation-harness reads it. */
import type { FastifyInstance } from 'fastify'
import { isObject, show } from '../../base/json.js'
import type { ServerContext } from '../context.js'
import { badField } from '../errors.js'
import { checkModel } from './models.js'

export function tokenizeRoutes(app: FastifyInstance, context: ServerContext): void {
  const { model } = context
  const { tokenizer } = model
  app.get('/tokenizer_info', () => tokenizerInfo(context))

  app.post('/tokenize', async ({ body }) => {
    const { prompt, add_special_tokens = true, return_token_strs = false } = fields(body, context)
    if (typeof prompt !== 'string') throw badField('prompt', `expected a text, got ${show(prompt)}`)
    const addSpecialTokens = flag(add_special_tokens, 'add_special_tokens')
    // Some tokenizers find no special token in a text. lm-evaluation-harness asks so for their ids.
    const named = tokenizer.specialTokens.find(({ content }) => content === prompt)
    const isNameAlone = named !== undefined && !addSpecialTokens
    const tokens = isNameAlone
      ? [named.id]
      : await tokenizer.encodeAsync(prompt, { addSpecialTokens })
    const strings = flag(return_token_strs, 'return_token_strs')
      ? { token_strs: tokens.map(id => tokenizer.idToToken(id) ?? '') }
      : {}
    return { count: tokens.length, max_model_len: model.contextLength, tokens, ...strings }
  })

  app.post('/detokenize', ({ body }) => {
    const tokens = tokenIds(fields(body, context).tokens, model.config.vocabSize)
    // As vLLM does, so that texts come back whole.
    return { prompt: tokenizer.decode(tokens, { skipSpecialTokens: false }) }
  })
}

function tokenizerInfo({ model: { tokenizer } }: ServerContext): object {
  const { templates, tokens } = tokenizer.anyTemplate
  return {
    tokenizer_class: 'PreTrainedTokenizerFast',
    bos_token: null,
    eos_token: null,
    pad_token: null,
    ...tokens,
    chat_template: templates.get('default') ?? [...templates.values()][0] ?? null,
  }
}

function fields(body: unknown, context: ServerContext): Record<string, unknown> {
  if (!isObject(body)) throw badField('body', `expected a JSON object, got ${show(body)}`)
  checkModel(body.model, context)
  return body
}

function flag(value: unknown, name: string): boolean {
  if (typeof value === 'boolean') return value
  throw badField(name, `expected true or false, got ${show(value)}`)
}

/** Decoding holds the event loop for 0.3 us an id. */
const MOST_IDS = 2 ** 18

function tokenIds(value: unknown, vocabSize: number): number[] {
  const isId = (id: unknown) =>
    Number.isInteger(id) && (id as number) >= 0 && (id as number) < vocabSize
  if (Array.isArray(value) && value.length > MOST_IDS)
    throw badField('tokens', `expected at most ${MOST_IDS} ids, got ${value.length}`)
  if (Array.isArray(value) && value.every(isId)) return value
  throw badField('tokens', `expected ids below ${vocabSize}, got ${show(value)}`)
}
