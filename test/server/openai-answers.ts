/** Answers of servers in tests: checked against OpenAI's published types, and read from streams. */
import { join } from 'node:path'
import { Ajv, type ValidateFunction } from 'ajv'
import type { Server } from '../../lib/server/index.js'
import { readJson, root } from '../support/golden.js'

type Answer =
  | 'CreateCompletionResponse'
  | 'CreateChatCompletionResponse'
  | 'CreateChatCompletionStreamResponse'
  | 'ErrorResponse'

// biome-ignore lint/suspicious/noExplicitAny: a JSON document
type Json = any

const published: Json = readJson(join(root, 'test', 'server', 'openai-answers.json'))
allowNulls(published.definitions)
const ajv = new Ajv({ allowUnionTypes: true }).addSchema(published, 'openai')

/** OpenAI's own answers have null here, and so do its clients' types, but not the description. */
function allowNulls({
  CreateCompletionResponse: completion,
  CreateChatCompletionStreamResponse: chunk,
}: Json): void {
  const orNull = (schema: Json) => ({ anyOf: [schema, { type: 'null' }] })
  for (const { properties } of [completion, chunk]) properties.usage = orNull(properties.usage)
  const choice = completion.properties.choices.items.properties
  choice.finish_reason = orNull(choice.finish_reason)
  const lists = choice.logprobs.anyOf[0].properties
  for (const list of [lists.token_logprobs, lists.top_logprobs]) list.items = orNull(list.items)
}

/** @throws Error if the answer is not of the type */
export function checkAnswer(type: Answer, answer: unknown): void {
  const validate = ajv.getSchema(`openai#/definitions/${type}`) as ValidateFunction
  if (!validate(answer)) throw new Error(`${type}: ${ajv.errorsText(validate.errors)}`)
}

export interface Reply {
  readonly status: number
  readonly headers: Readonly<Record<string, unknown>>
  readonly body: Json
}

/** Posts a body, and reads a whole answer. */
export async function post(server: Server, url: string, payload: object): Promise<Reply> {
  const { statusCode, headers, body } = await server.app.inject({ method: 'POST', url, payload })
  return { status: statusCode, headers, body: JSON.parse(body) }
}

/** Posts a body, and reads the events of a streamed answer, less the last. */
export async function postStream(server: Server, url: string, payload: object): Promise<Json[]> {
  const sent = { ...payload, stream: true }
  const { body } = await server.app.inject({ method: 'POST', url, payload: sent })
  return eventsOf(body)
}

/** The data of a stream's events. The last one is [DONE], and is left out. */
export function eventsOf(body: string): Json[] {
  const events = body.split('\n\n').map(event => event.replace(/^data: /, ''))
  const end = events.splice(-2)
  if (end.join() !== '[DONE],') throw new Error(`the stream ends with ${end}`)
  return events.map(event => JSON.parse(event))
}
