/** Chunks of streams, in OpenAI's two forms, read as one. */
import type { Score } from './pieces.js'

/** New parts of a call of a tool. */
export interface CallPart {
  readonly index: number
  readonly name: string
  readonly args: string
}

/** Counts of tokens, and of FFN experts where the server says them. */
export interface Usage {
  readonly promptTokens: number
  readonly tokens: number
  readonly ffnExpertsPerToken: number | undefined
}

/** FFN experts of tokens that follow each other. Token i of the text is `promptTokens` + i. */
export interface Routing {
  readonly first: number
  readonly promptTokens: number
  readonly ffnExperts: readonly number[]
}

/** The news of a chunk. */
export interface Delta {
  readonly text: string
  readonly thought: string
  readonly calls: readonly CallPart[]
  readonly scores: readonly Score[]
  readonly routing: Routing | undefined
  readonly finish: string | undefined
  readonly usage: Usage | undefined
}

type Fields = Readonly<Record<string, unknown>>

export const fieldsOf = (value: unknown): Fields =>
  typeof value === 'object' && value !== null ? (value as Fields) : {}
export const listOf = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : [])
export const textOf = (value: unknown): string => (typeof value === 'string' ? value : '')
export const numberOf = (value: unknown) => (typeof value === 'number' ? value : undefined)

/** The message of an error in OpenAI's form; undefined if the answer is none. */
export function errorIn(answer: unknown): string | undefined {
  const { error } = fieldsOf(answer)
  if (error === undefined || error === null) return undefined
  return textOf(error) || textOf(fieldsOf(error).message) || 'The server reports an error.'
}

/** @throws Error for an error in the stream, and for data that is no JSON */
export function deltaOf(data: string): Delta {
  let chunk: unknown
  try {
    chunk = JSON.parse(data)
  } catch {
    throw new Error(`The server sent an event that is no JSON: ${data.slice(0, 80)}`)
  }
  const error = errorIn(chunk)
  if (error !== undefined) throw new Error(error)
  const { choices, usage } = fieldsOf(chunk)
  const choice = fieldsOf(listOf(choices)[0])
  const delta = fieldsOf(choice.delta)
  return {
    text: textOf(choice.text) || textOf(delta.content),
    thought: textOf(delta.reasoning_content),
    calls: listOf(delta.tool_calls).map(callOf),
    scores: scoresOf(fieldsOf(choice.logprobs)),
    routing: choice.routing ? routingOf(fieldsOf(choice.routing)) : undefined,
    finish: textOf(choice.finish_reason) || undefined,
    usage: usage ? usageOf(fieldsOf(usage)) : undefined,
  }
}

function callOf(value: unknown): CallPart {
  const call = fieldsOf(value)
  const { name, arguments: args } = fieldsOf(call.function)
  return { index: numberOf(call.index) ?? 0, name: textOf(name), args: textOf(args) }
}

function routingOf({ first, prompt_tokens: prompt, ffn_experts: experts }: Fields): Routing {
  return {
    first: numberOf(first) ?? 0,
    promptTokens: numberOf(prompt) ?? 0,
    ffnExperts: listOf(experts).filter(each => typeof each === 'number'),
  }
}

function usageOf(usage: Fields): Usage {
  return {
    promptTokens: numberOf(usage.prompt_tokens) ?? 0,
    tokens: numberOf(usage.completion_tokens) ?? 0,
    ffnExpertsPerToken: numberOf(usage.ffn_experts_per_token),
  }
}

/** Chats have a list of objects, completions have lists side by side. */
function scoresOf(logprobs: Fields): Score[] {
  if (Array.isArray(logprobs.content)) return logprobs.content.flatMap(scoreOf)
  const values = listOf(logprobs.token_logprobs)
  const tops = listOf(logprobs.top_logprobs)
  return listOf(logprobs.tokens).flatMap((token, i) => {
    const top = Object.entries(fieldsOf(tops[i]))
    const choices = top.map(([token, logprob]) => ({ token, logprob }))
    return scoreOf({ token, logprob: values[i], top_logprobs: choices })
  })
}

/** A token without a probability is no score. */
function scoreOf(value: unknown): Score[] {
  const { token, logprob, top_logprobs: top } = fieldsOf(value)
  if (typeof token !== 'string' || typeof logprob !== 'number') return []
  const choices = listOf(top).flatMap(scoreOf)
  choices.sort((a, b) => b.logprob - a.logprob)
  return [{ token, logprob, top: choices }]
}
