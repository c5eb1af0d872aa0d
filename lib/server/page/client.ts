/** The server's interface. Addresses are relative, so that a proxy may put the page in a folder. */
import { type Delta, deltaOf, errorIn, fieldsOf, listOf, numberOf, textOf } from './chunks.js'
import type { Body } from './requests.js'
import { eventsOf } from './sse.js'

const KEY = 'moepp-api-key'

/** The server wants an API key, or another one. */
export class KeyNeeded extends Error {}

/** The key stays until the tab is closed. */
export function keepKey(key: string): void {
  sessionStorage.setItem(KEY, key)
}

async function request(path: string, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers)
  const key = sessionStorage.getItem(KEY)
  if (key !== null) headers.set('authorization', `Bearer ${key}`)
  let response: Response
  try {
    response = await fetch(path, { ...init, headers })
  } catch (error) {
    if (init.signal?.aborted) throw error
    throw new Error('The server cannot be reached.', { cause: error })
  }
  if (response.ok) return response
  const message = errorIn(await response.json().catch(() => undefined))
  const said = message ?? `The server answers with status ${response.status}.`
  if (response.status === 401) throw new KeyNeeded(said)
  const wait = response.headers.get('retry-after')
  throw new Error(wait === null ? said : `${said} Try again in ${wait} s.`)
}

/** The ids of the server's models. */
export async function modelIds(): Promise<string[]> {
  const list: unknown = await (await request('v1/models')).json()
  return listOf(fieldsOf(list).data).map(model => textOf(fieldsOf(model).id))
}

export interface ModelFacts {
  /** False if the server says that it has no chat template. */
  readonly chats: boolean
  /** Experts that a token picks in a layer; undefined if the server does not say it. */
  readonly expertsPerToken: number | undefined
}

export async function modelFacts(model: string): Promise<ModelFacts> {
  const path = `v1/models/${encodeURIComponent(model)}`
  const { capabilities, experts_per_token } = fieldsOf(await (await request(path)).json())
  return {
    chats: fieldsOf(capabilities).chat !== false,
    expertsPerToken: numberOf(experts_per_token),
  }
}

/**
 * The deltas of a streamed answer.
 *
 * @throws Error for an error in the stream, and for one that ends before its `[DONE]`
 */
export async function* stream(
  path: 'v1/completions' | 'v1/chat/completions',
  body: Body,
  signal: AbortSignal,
): AsyncGenerator<Delta> {
  const { body: answer } = await request(path, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
    signal,
  })
  if (answer === null) throw new Error('The server sent no stream.')
  for await (const data of eventsOf(answer)) {
    if (data === '[DONE]') return
    yield deltaOf(data)
  }
  throw new Error('The stream ended early: the answer is not whole.')
}
