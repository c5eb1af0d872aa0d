/** The fields of sampling, which completions and chats share, and the options that they become. */
import { boolean, integer } from '../../base/option-checks.js'
import {
  type GenerateContext,
  type GenerateOptions,
  generateChecks,
} from '../../options/generate.js'
import { badField } from '../errors.js'
import { checkNames, ignored, only, readFields, refused } from './fields.js'
import { GRAMMAR_FIELDS } from './grammar-fields.js'

/** Most texts for one prompt, as in OpenAI's API. */
export const MOST_TEXTS = 128

/** Most alternatives of a token: as many as a chat of OpenAI's has. */
export const logprobCount = integer(0, 20)

export const SAMPLING_FIELDS = {
  // Checked before all others.
  model: ignored,
  n: integer(1, MOST_TEXTS),
  max_tokens: integer(0),
  // Of transformers: some tasks of lm-evaluation-harness send it.
  max_new_tokens: integer(0),
  min_tokens: generateChecks.minNewTokens,
  temperature: generateChecks.temperature,
  top_p: generateChecks.topP,
  top_k: topK,
  min_p: generateChecks.minP,
  typical_p: generateChecks.typicalP,
  repetition_penalty: generateChecks.repetitionPenalty,
  frequency_penalty: generateChecks.frequencyPenalty,
  presence_penalty: generateChecks.presencePenalty,
  no_repeat_ngram_size: generateChecks.noRepeatNgramSize,
  logit_bias: generateChecks.logitBias,
  stop: stopField,
  stop_token_ids: generateChecks.stopTokenIds,
  ignore_eos: boolean,
  // Text i has the seed + i, which must be a safe integer, too.
  seed: integer(Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER - MOST_TEXTS),
  stream: boolean,
  stream_options: streamOptions,
  prompt_logprobs: logprobCount,
  // moepp's own.
  return_routing: boolean,
  ...GRAMMAR_FIELDS,

  // They are about accounts, billing and storage, or about another server's queue and cache.
  user: ignored,
  metadata: ignored,
  store: ignored,
  service_tier: ignored,
  safety_identifier: ignored,
  prompt_cache_key: ignored,
  prompt_cache_retention: ignored,
  prompt_cache_options: ignored,
  priority: ignored,
  request_id: ignored,

  skip_special_tokens: only(true),
  spaces_between_special_tokens: only(true),
  include_stop_str_in_output: only(false),
  use_beam_search: only(false),
  num_beams: only(1),
  length_penalty: only(1),
  early_stopping: only(false),
  bad_words: only([]),
  allowed_token_ids: refused,
  truncate_prompt_tokens: refused,
  return_tokens_as_token_ids: only(false),
  return_token_ids: only(false),
  cache_salt: refused,
  logits_processors: refused,
  moderation: refused,
}

export type SamplingFields = ReturnType<typeof readFields<GenerateContext, typeof SAMPLING_FIELDS>>

/** Of all stop strings of a request. Each running text has up to 300 bytes for each of them. */
const MOST_STOP_CHARACTERS = 4096

function stopField(value: unknown, name: string): readonly string[] {
  const stops = generateChecks.stop(value, name)
  const characters = stops.reduce((sum, each) => sum + each.length, 0)
  if (characters <= MOST_STOP_CHARACTERS) return stops
  const expected = `expected at most ${MOST_STOP_CHARACTERS} characters in all`
  throw badField(name, `${expected}, got ${characters}`)
}

/** Most log-probabilities of a completion: each takes 400 bytes, and 3 us of the event loop. */
const MOST_LOGPROBS = 2 ** 20

/** @throws RequestError 400 if an answer of so many tokens would have too many alternatives */
export function checkLogprobs(
  tokens: number,
  fields: Readonly<Record<'logprobs' | 'prompt_logprobs', number | undefined>>,
): void {
  for (const [name, alternatives] of Object.entries(fields)) {
    if (alternatives === undefined || tokens * (alternatives + 1) <= MOST_LOGPROBS) continue
    const most = Math.floor(MOST_LOGPROBS / (alternatives + 1))
    throw badField(name, `with ${alternatives} of each, at most ${most} tokens, got ${tokens}`)
  }
}

/** The least of the limits that are given; undefined if none is. */
export function leastOf(...limits: readonly (number | undefined)[]): number | undefined {
  const given = limits.filter(limit => limit !== undefined)
  return given.length > 0 ? Math.min(...given) : undefined
}

/** Other servers' -1 is off, too. */
function topK(value: unknown, name: string): number {
  return Math.max(0, integer(-1)(value, name))
}

const STREAM_OPTIONS = {
  include_usage: boolean,
  // Padding against those who measure the length of events: none here.
  include_obfuscation: ignored,
  continuous_usage_stats: only(false),
}

function streamOptions(value: unknown, name: string): { readonly include_usage?: boolean } {
  checkNames(Object(value), Object.keys(STREAM_OPTIONS), `${name}.`)
  return readFields(value, STREAM_OPTIONS, undefined)
}

/** @throws RequestError 400 if fields contradict each other */
export function checkSampling(fields: SamplingFields, maxTokens: number | undefined): void {
  const { stream, stream_options, min_tokens } = fields
  if (stream_options && !stream) throw badField('stream_options', 'allowed with stream alone')
  if (min_tokens !== undefined && maxTokens !== undefined && min_tokens > maxTokens)
    throw badField('min_tokens', `expected at most max_tokens, ${maxTokens}, got ${min_tokens}`)
}

/**
 * The options of a text: the request's, or else the checkpoint's (`presets`), or else OpenAI's
 * defaults: all of the vocabulary at temperature 1.
 */
export function samplingOptions(
  fields: SamplingFields,
  presets: Readonly<Partial<GenerateOptions>>,
): GenerateOptions {
  const isGreedy = fields.temperature === undefined && presets.doSample === false
  return {
    temperature: isGreedy ? 0 : (fields.temperature ?? presets.temperature ?? 1),
    topK: fields.top_k ?? presets.topK ?? 0,
    topP: fields.top_p,
    minP: fields.min_p,
    typicalP: fields.typical_p,
    minNewTokens: fields.min_tokens,
    repetitionPenalty: fields.repetition_penalty,
    frequencyPenalty: fields.frequency_penalty,
    presencePenalty: fields.presence_penalty,
    noRepeatNgramSize: fields.no_repeat_ngram_size,
    logitBias: fields.logit_bias,
    stop: fields.stop,
    stopTokenIds: fields.stop_token_ids,
    ignoreEos: fields.ignore_eos,
  }
}
