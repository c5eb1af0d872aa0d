/**
 * The client of lm-evaluation-harness at commit 4e7e0d47f, `local-completions` with its remote
 * tokenizer: the same requests, in the same batches, and its reading of the answers. Sources:
 * lm_eval/models/openai_completions.py, api_models.py, lm_eval/utils.py, lm_eval/api/model.py.
 */
import assert from 'node:assert/strict'

/** A context and its continuation, as token ids. */
export type Pair = readonly [context: readonly number[], continuation: readonly number[]]

export interface Likelihood {
  readonly logprob: number
  readonly isGreedy: boolean
}

interface Choice {
  readonly index: number
  readonly text: string
  readonly logprobs: {
    readonly token_logprobs: readonly number[]
    readonly top_logprobs: readonly Readonly<Record<string, number>>[]
  }
}

export interface ClientOptions {
  /** The server's address. */
  readonly url: string
  readonly model: string
  /** Prompts of a request. Default 1. */
  readonly batchSize?: number
  /** Requests at a time. Default 1. */
  readonly concurrent?: number
  /** Most tokens of a prompt and of its text. Default 2048. */
  readonly maxLength?: number
  /** Default '', as in the harness. */
  readonly key?: string
}

const SEED = 1234

export class HarnessClient {
  readonly #options: Required<ClientOptions>

  constructor(options: ClientOptions) {
    this.#options = { batchSize: 1, concurrent: 1, maxLength: 2048, key: '', ...options }
  }

  /** Most tokens of a prompt: one is left for the text. */
  get maxLength(): number {
    return this.#options.maxLength - 1
  }

  async encode(text: string): Promise<number[]> {
    const { tokens } = await this.#post('/tokenize', { prompt: text, add_special_tokens: false })
    return tokens
  }

  async prefixToken(): Promise<number> {
    const info = await this.#fetch('/tokenizer_info')
    const id = async (name: string | null) => (name === null ? 0 : (await this.encode(name))[0]!)
    return (await id(info.bos_token)) || (await id(info.eos_token))
  }

  /** TemplateLM.loglikelihood: the tokens of a text and of what follows it. */
  async pair(context: string, continuation: string): Promise<Pair> {
    if (context === '') {
      const ids = await this.encode(continuation)
      const prefix = await this.prefixToken()
      return ids[0] === prefix ? [ids.slice(0, 1), ids.slice(1)] : [[prefix], ids]
    }
    const before = await this.encode(context.trimEnd())
    return [before, (await this.encode(context + continuation)).slice(before.length)]
  }

  async loglikelihoods(pairs: readonly Pair[]): Promise<Likelihood[]> {
    const cut = pairs.map(([context, continuation]) => {
      const whole = [...context, ...continuation]
      const extra = Math.max(0, whole.length - this.maxLength)
      return { ids: whole.slice(-this.maxLength), contextLength: context.length - extra }
    })
    return this.#batches(cut, async batch => {
      const choices = await this.#complete({
        model: this.#options.model,
        prompt: batch.map(({ ids }) => ids),
        temperature: 0,
        max_tokens: 1,
        logprobs: 1,
        seed: SEED,
        echo: true,
      })
      return batch.map(({ contextLength }, i) => parseLogprobs(choices[i]!, contextLength))
    })
  }

  /** The log-probability of a whole text, in windows that follow one token each. */
  async rolling(text: string): Promise<{ readonly logprob: number; readonly windows: Pair[] }> {
    const ids = await this.encode(text)
    const windows = rollingWindows(ids, await this.prefixToken(), this.maxLength - 1)
    const parts = await this.loglikelihoods(windows)
    return { logprob: parts.reduce((sum, { logprob }) => sum + logprob, 0), windows }
  }

  /** `fields`: what a task's generation_kwargs leave, such as temperature and top_p. */
  async generateUntil(
    contexts: readonly string[],
    until: readonly string[],
    maxTokens: number,
    fields: object = {},
  ): Promise<string[]> {
    const { eos_token } = await this.#fetch('/tokenizer_info')
    const ids = await Promise.all(contexts.map(context => this.encode(context)))
    return this.#batches(ids, async batch => {
      const choices = await this.#complete({
        prompt: batch.map(each => each.slice(maxTokens - this.maxLength)),
        model: this.#options.model,
        max_tokens: maxTokens,
        temperature: 0,
        stop: until.includes(eos_token) ? until : [...until, eos_token],
        seed: SEED,
        ...fields,
      })
      return choices.map(({ text }) => text)
    })
  }

  /** In order, as many requests at a time as may be. */
  async #batches<T, R>(all: readonly T[], ask: (batch: readonly T[]) => Promise<R[]>) {
    const { batchSize, concurrent } = this.#options
    const batches: T[][] = []
    for (let at = 0; at < all.length; at += batchSize) batches.push(all.slice(at, at + batchSize))
    const results: R[][] = []
    const next = batches.entries()
    const worker = async () => {
      for (const [i, batch] of next) results[i] = await ask(batch)
    }
    await Promise.all(Array.from({ length: concurrent }, worker))
    return results.flat()
  }

  async #complete(payload: object): Promise<Choice[]> {
    const { choices } = await this.#post('/v1/completions', payload)
    return choices.toSorted((a: Choice, b: Choice) => a.index - b.index)
  }

  #post(path: string, payload: object) {
    return this.#fetch(path, { method: 'POST', body: JSON.stringify(payload) })
  }

  // biome-ignore lint/suspicious/noExplicitAny: a JSON document
  async #fetch(path: string, init: object = {}): Promise<any> {
    const { url, key } = this.#options
    const headers = { 'content-type': 'application/json', authorization: `Bearer ${key}` }
    const response = await fetch(url + path, { headers, ...init })
    if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`)
    return response.json()
  }
}

/** LocalCompletionsAPI.parse_logprobs, of one choice. The last entry is the generated token's. */
function parseLogprobs({ logprobs }: Choice, contextLength: number): Likelihood {
  assert(contextLength > 0, 'Context length must be greater than 0')
  const own = logprobs.token_logprobs.slice(contextLength, -1)
  const tops = logprobs.top_logprobs.slice(contextLength, -1)
  return {
    logprob: own.reduce((sum, logprob) => sum + logprob, 0),
    isGreedy: own.every((logprob, i) => logprob === Math.max(...Object.values(tops[i]!))),
  }
}

/** get_rolling_token_windows with context_len 1, and make_disjoint_window. */
function rollingWindows(ids: readonly number[], prefix: number, length: number): Pair[] {
  const windows: Pair[] = []
  for (let at = 0; at < ids.length; at += length) {
    const end = Math.min(at + length, ids.length)
    const before = at === 0 ? [prefix] : ids.slice(end - length - 1, at)
    windows.push([before, ids.slice(at, end)])
  }
  return windows
}
