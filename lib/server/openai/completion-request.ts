/** The fields of a completion's request, and what they ask for. */
import { boolean, integer } from '../../base/option-checks.js'
import type { Model } from '../../generation/model.js'
import type { GenerateOptions } from '../../options/generate.js'
import { badField } from '../errors.js'
import { only, readFields, refused } from './fields.js'
import { grammarOf, type PlacedGrammar } from './grammar-fields.js'
import { type PromptField, promptField } from './prompts.js'
import {
  checkSampling,
  leastOf,
  logprobCount,
  MOST_TEXTS,
  SAMPLING_FIELDS,
  samplingOptions,
} from './sampling-fields.js'

/** Every field that is known. docs/serving.md has the same list. */
export const COMPLETION_FIELDS = {
  ...SAMPLING_FIELDS,
  prompt: promptField,
  best_of: integer(1, MOST_TEXTS),
  echo: boolean,
  logprobs: logprobCount,
  add_special_tokens: boolean,
  suffix: refused,
  prompt_embeds: refused,
  detokenize: only(true),
}

/** OpenAI's default of max_tokens. */
const DEFAULT_MAX_TOKENS = 16

export interface CompletionRequest {
  readonly prompts: PromptField
  readonly addSpecialTokens: boolean
  /** Choices for each prompt, and the texts that they are the best of. */
  readonly n: number
  readonly bestOf: number
  readonly maxTokens: number
  readonly seed: number | undefined
  readonly echo: boolean
  /** Alternatives of each token; undefined if no log-probabilities are wanted. */
  readonly logprobs: number | undefined
  /** The same of the prompt's tokens, in vLLM's form. */
  readonly promptLogprobs: number | undefined
  readonly stream: boolean
  readonly includeUsage: boolean
  /** True: the answer tells the FFN experts of its tokens. */
  readonly returnRouting: boolean
  /** Further options of each text. */
  readonly options: GenerateOptions
  readonly grammar: PlacedGrammar | undefined
}

/** @throws RequestError 400 that names the field */
export function readCompletion(body: unknown, { config, presets }: Model): CompletionRequest {
  const fields = readFields(body, COMPLETION_FIELDS, config)
  const { prompt, n = 1, best_of = n, stream = false, logprobs } = fields
  const { max_tokens, max_new_tokens } = fields
  const maxTokens =
    leastOf(max_tokens, max_new_tokens) ?? presets.maxNewTokens ?? DEFAULT_MAX_TOKENS
  checkSampling(fields, maxTokens)
  if (prompt === undefined) throw badField('prompt', 'expected a text, ids, or a list of either')
  if (best_of < n) throw badField('best_of', `expected at least n, which is ${n}, got ${best_of}`)
  if (best_of > n && stream) throw badField('best_of', 'not allowed with stream')
  if (fields.prompt_logprobs !== undefined && stream)
    throw badField('prompt_logprobs', 'not allowed with stream')
  const grammar = grammarOf(fields)
  return {
    prompts: prompt,
    addSpecialTokens: fields.add_special_tokens ?? true,
    n,
    bestOf: best_of,
    maxTokens,
    seed: fields.seed,
    echo: fields.echo ?? false,
    logprobs,
    promptLogprobs: fields.prompt_logprobs,
    stream,
    includeUsage: fields.stream_options?.include_usage ?? false,
    returnRouting: fields.return_routing ?? false,
    grammar,
    options: {
      ...samplingOptions(fields, presets),
      maxNewTokens: maxTokens,
      grammar: grammar?.grammar,
    },
  }
}
