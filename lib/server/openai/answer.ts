/** Parts that the answers of completions and chats have in common. */
import { createHash, randomUUID } from 'node:crypto'
import { packageVersion } from '../../addon/addon-file.js'
import type { GenerateResult } from '../../generation/results.js'
import { meanFfnExperts } from '../../generation/routing.js'
import type { ServerContext } from '../context.js'
import { rounded } from './routing.js'

/** Fields at the head of each answer and of each of its chunks. */
export interface AnswerHead {
  readonly id: string
  readonly object: string
  readonly created: number
  readonly model: string
  readonly system_fingerprint: string
}

export function answerHead(
  prefix: 'cmpl' | 'chatcmpl',
  object: string,
  context: ServerContext,
): AnswerHead {
  return {
    id: randomId(prefix, '-'),
    object,
    created: Math.floor(Date.now() / 1000),
    model: context.options.modelName,
    system_fingerprint: fingerprintOf(context),
  }
}

export function randomId(prefix: string, separator = '_'): string {
  return `${prefix}${separator}${randomUUID().replaceAll('-', '')}`
}

const fingerprints = new WeakMap<ServerContext, string>()

/** Changes where the same seed may give another text: with the version, the device, the model. */
function fingerprintOf(context: ServerContext): string {
  const known = fingerprints.get(context)
  if (known !== undefined) return known
  const { config, device } = context.model
  const parts = JSON.stringify([packageVersion(), device.model, device.isa, config])
  const fingerprint = `fp_${createHash('sha256').update(parts).digest('hex').slice(0, 12)}`
  fingerprints.set(context, fingerprint)
  return fingerprint
}

export interface AnswerUsage {
  readonly prompt_tokens: number
  readonly completion_tokens: number
  readonly total_tokens: number
  readonly prompt_tokens_details: { readonly cached_tokens: number }
  /** Of an answer with routing. */
  readonly ffn_experts_per_token?: number
}

/** Of all texts of a request. `texts` follow each other for each prompt, which counts once. */
export function usageOf(
  results: readonly Pick<GenerateResult, 'usage' | 'routing'>[],
  texts: number,
  withRouting: boolean,
): AnswerUsage {
  const usages = results.map(({ usage }) => usage)
  const sum = (counts: number[]) => counts.reduce((total, count) => total + count, 0)
  const firsts = usages.filter((_, i) => i % texts === 0)
  const prompt = sum(firsts.map(usage => usage.promptTokens))
  const completion = sum(usages.map(usage => usage.generatedTokens))
  return {
    prompt_tokens: prompt,
    completion_tokens: completion,
    total_tokens: prompt + completion,
    prompt_tokens_details: { cached_tokens: sum(firsts.map(usage => usage.cachedTokens)) },
    ...(withRouting && {
      ffn_experts_per_token: rounded(meanFfnExperts(results.map(({ routing }) => routing))),
    }),
  }
}
