/**
 * The options of generation: their names, ranges and defaults, and the checks that turn
 * what a caller passed into a complete, frozen record. An unknown option or a wrong value is a
 * TypeError or RangeError that names it.
 */

import { isObject, show } from '../base/json.js'
import {
  boolean,
  type Check,
  type Checked,
  checkAll,
  integer,
  number,
  signal,
  text,
  wrong,
} from '../base/option-checks.js'
import { MoeppError } from '../errors.js'
import type { GrammarSource } from '../grammar/grammar-text.js'
import { type LogitsHook, logitsHook } from '../sampling/logits-hook.js'
import {
  type ResolvedSpeculation,
  type Speculation,
  speculation,
} from '../sampling/prompt-lookup.js'
import { randomSeed } from '../sampling/rng.js'
import { type Admit, admission, type CallLoad } from './admission.js'
import { type Grammar, grammar } from './grammar.js'

export {
  type HeldType,
  type Isa,
  type LoadOptions,
  type LoadProgress,
  type MatrixType,
  type ReadProgress,
  type ResolvedLoadOptions,
  resolveLoadOptions,
} from './load.js'

/**
 * Options of `generate` and `stream`. An option that is undefined counts as not given. The call's
 * options override the checkpoint's generation_config.json, and that the defaults given here.
 *
 * @example
 * ```ts
 * import { type GenerateOptions, loadModel } from 'moepp'
 *
 * const options: GenerateOptions = { temperature: 0.8, topP: 0.95, stop: '\n\n', seed: 7 }
 * const model = await loadModel('npm:moepp-books-7m')
 * console.log((await model.generate('The old man', options)).text)
 * ```
 */
export interface GenerateOptions {
  /**
   * Most tokens to generate, >= 0. 0 computes the prompt alone: for its cache, or `promptLogprobs`.
   * Default 256; the context bounds it too.
   */
  maxNewTokens?: number
  /** Tokens that end the sequence are banned until this many are generated, >= 0. Default 0. */
  minNewTokens?: number
  /**
   * Draw from the distribution instead of taking the likeliest token. Default: whether the call
   * gives a temperature.
   */
  doSample?: boolean
  /** Divides the logits, >= 0. 0 is greedy. Default 1. */
  temperature?: number
  /** Draw from the topK likeliest tokens; 0 turns it off. Default 50. */
  topK?: number
  /**
   * Draw from the smallest set of likeliest tokens with this probability together, 0 to 1. Default
   * 1: off.
   */
  topP?: number
  /**
   * Draw from the tokens with at least this share of the largest probability, 0 to 1. Default 0:
   * off.
   */
  minP?: number
  /** Locally typical sampling: the probability mass to keep, above 0 up to 1. Default 1: off. */
  typicalP?: number
  /**
   * Divides the positive and multiplies the negative logits of tokens in prompt and text, > 0.
   * Default 1: off.
   */
  repetitionPenalty?: number
  /** Taken from a token's logit once for each time it was generated, -2 to 2. Default 0. */
  frequencyPenalty?: number
  /** Taken from a token's logit if it was generated, -2 to 2. Default 0. */
  presencePenalty?: number
  /** No n-gram of this size occurs twice in prompt and text, >= 0. Default 0: off. */
  noRepeatNgramSize?: number
  /** Added to the logits of tokens, by id: -100 to 100, or -Infinity to ban. Default none. */
  logitBias?: Readonly<Record<number, number>> | ReadonlyMap<number, number>
  /** Texts that end the generation and are left out of the result. Default none. */
  stop?: string | readonly string[]
  /** Tokens that end the generation besides the end-of-sequence token. Default none. */
  stopTokenIds?: readonly number[]
  /** Go on after the end-of-sequence token. Default false. */
  ignoreEos?: boolean
  /** Same seed, same text, on the same kind of device. A safe integer. Default: random. */
  seed?: number
  /**
   * Report log-probabilities, with this many alternatives per token, 0 to the vocabulary's size.
   * Default: do not.
   */
  logprobs?: number
  /**
   * Report the log-probability of each token of the prompt after those before it, with this many
   * alternatives, 0 to the vocabulary's size. All of the prompt is computed for that: keys from the
   * cache give no logits. The figures are those of `Model.score`. Default: do not.
   */
  promptLogprobs?: number
  /** Texts to generate for the prompt, >= 1; each has random numbers of its own. Default 1. */
  numReturnSequences?: number
  /**
   * Add the tokenizer's begin and end tokens to the prompt. Default: what the checkpoint's
   * tokenizer_config says.
   */
  addSpecialTokens?: boolean
  /**
   * Special tokens in a prompt that is a text are ordinary characters, as in `EncodeOptions`.
   * Default false.
   */
  splitSpecialTokens?: boolean
  /** Ends the generation early. The result then has finishReason 'abort'; nothing is thrown. */
  signal?: AbortSignal
  /**
   * Called once the prompts are encoded, before the model computes any of them. The call waits for
   * it, and rejects with what it throws: for a queue of one's own, or a limit. An abort ends the
   * wait. No time of `timings` counts it. Default: every call is admitted.
   */
  admit?: (load: CallLoad) => void | Promise<void>
  /**
   * Guess the next tokens from an earlier place of prompt or text, and compute them in one step.
   * The result is the same, bit by bit. It comes faster where the text repeats something. True is
   * `{ ngram: 3, tokens: 8 }`. Default false.
   */
  speculate?: boolean | Speculation
  /**
   * Report the experts and expert weights of each token. All of the prompt is computed for that.
   * 'computed' leaves out its first tokens that are in the KV cache already. So does 'counts'. It
   * reports counts of tokens alone: its memory does not grow with the text. With each of them the
   * chunks of a stream tell the FFN experts of their tokens. Default false.
   */
  routing?: boolean | 'computed' | 'counts'
  /**
   * Called for each new token of each text, to change its logits in place.
   *
   * It takes part where Hugging Face puts a caller's LogitsProcessor: after the penalties,
   * `logitBias` and `minNewTokens`, before temperature, topK, topP, minP and typicalP. The option
   * `logprobs` still reports the model's own distribution. See LogitsHook for the arguments.
   *
   * It must be synchronous, and other texts wait while it runs. A hook makes the device return the
   * whole row of logits, which the sampler copies and checks. That costs about 0.6 ms for each new
   * token at a vocabulary of 65,536, without the hook's own time. Sampling without a hook takes
   * 0.01 ms (2026-11, one busy core of an AMD EPYC).
   *
   * If the hook throws, its call rejects with that exception, and other calls go on. NaN,
   * +Infinity, or a row of -Infinity alone is a RangeError; a promise, or a detached array, is a
   * TypeError.
   */
  logits?: LogitsHook
  /**
   * The form that the text has: a JSON Schema, a regular expression or an EBNF. See Grammar for
   * what each can say. The text always has it, unless `maxNewTokens` cuts it (finishReason
   * 'length'), a stop string or token does, or the signal. Default: any text.
   */
  grammar?: Grammar
}

/** GenerateOptions, checked, with every default filled in. */
export interface ResolvedOptions
  extends Readonly<
    Required<
      Omit<
        GenerateOptions,
        | 'logitBias'
        | 'stop'
        | 'logprobs'
        | 'promptLogprobs'
        | 'addSpecialTokens'
        | 'signal'
        | 'admit'
        | 'logits'
        | 'grammar'
        | 'speculate'
      >
    >
  > {
  readonly logitBias: ReadonlyMap<number, number>
  readonly stop: readonly string[]
  readonly logprobs: number | undefined
  readonly promptLogprobs: number | undefined
  readonly addSpecialTokens: boolean | undefined
  readonly signal: AbortSignal | undefined
  readonly admit: Admit | undefined
  readonly logits: LogitsHook | undefined
  readonly grammar: GrammarSource | undefined
  readonly speculate: ResolvedSpeculation | undefined
}

export interface GenerateContext {
  readonly vocabSize: number
}

/** The check of each option of generation. */
export const generateChecks = {
  maxNewTokens: integer(0),
  minNewTokens: integer(0),
  doSample: boolean,
  temperature: number({ least: 0 }),
  topK: integer(0),
  topP: number({ least: 0, most: 1 }),
  minP: number({ least: 0, most: 1 }),
  typicalP: number({ above: 0, most: 1 }),
  repetitionPenalty: number({ above: 0 }),
  frequencyPenalty: number({ least: -2, most: 2 }),
  presencePenalty: number({ least: -2, most: 2 }),
  noRepeatNgramSize: integer(0),
  logitBias,
  stop,
  stopTokenIds,
  ignoreEos: boolean,
  seed: integer(Number.MIN_SAFE_INTEGER),
  logprobs: alternatives,
  promptLogprobs: alternatives,
  numReturnSequences: integer(1),
  addSpecialTokens: boolean,
  splitSpecialTokens: boolean,
  signal,
  admit: admission,
  speculate: speculation,
  routing,
  logits: logitsHook,
  grammar,
} satisfies Record<keyof GenerateOptions, Check<unknown, GenerateContext>>

/** The names of all options of generation. */
export const GENERATE_OPTIONS: readonly string[] = Object.keys(generateChecks)

/**
 * The call's options over the checkpoint's (its generation_config.json) over the library's
 * defaults. A wrong value of the checkpoint's is ERR_BAD_CONFIG.
 */
export function resolveGenerateOptions(
  call: GenerateOptions,
  checkpoint: Partial<GenerateOptions>,
  context: GenerateContext,
): ResolvedOptions {
  const fromCall = checkAll(call, generateChecks, context)
  const fromCheckpoint = checkCheckpoint(checkpoint, context)
  const given = { ...fromCheckpoint, ...fromCall }
  const doSample = samples(fromCall, fromCheckpoint)
  const maxNewTokens = given.maxNewTokens ?? 256
  if (fromCall.minNewTokens !== undefined && fromCall.minNewTokens > maxNewTokens) {
    throw new RangeError(
      `minNewTokens: expected at most maxNewTokens, which is ${maxNewTokens}, got ${fromCall.minNewTokens}`,
    )
  }
  return Object.freeze<ResolvedOptions>({
    maxNewTokens,
    minNewTokens: Math.min(given.minNewTokens ?? 0, maxNewTokens),
    doSample,
    // 0 is left where the checkpoint has temperature 0 and the call asks to sample.
    temperature: (doSample && given.temperature) || 1,
    topK: given.topK ?? 50,
    topP: given.topP ?? 1,
    minP: given.minP ?? 0,
    typicalP: given.typicalP ?? 1,
    repetitionPenalty: given.repetitionPenalty ?? 1,
    frequencyPenalty: given.frequencyPenalty ?? 0,
    presencePenalty: given.presencePenalty ?? 0,
    noRepeatNgramSize: given.noRepeatNgramSize ?? 0,
    logitBias: given.logitBias ?? new Map(),
    stop: given.stop ?? Object.freeze([]),
    stopTokenIds: given.stopTokenIds ?? Object.freeze([]),
    ignoreEos: given.ignoreEos ?? false,
    seed: given.seed ?? randomSeed(),
    logprobs: given.logprobs,
    promptLogprobs: given.promptLogprobs,
    numReturnSequences: given.numReturnSequences ?? 1,
    addSpecialTokens: given.addSpecialTokens,
    splitSpecialTokens: given.splitSpecialTokens ?? false,
    signal: given.signal,
    admit: given.admit,
    speculate: given.speculate,
    routing: given.routing ?? false,
    logits: given.logits,
    grammar: given.grammar,
  })
}

/** True if the call asks for sampling, or else the checkpoint does. */
function samples(
  call: Checked<typeof generateChecks>,
  checkpoint: Checked<typeof generateChecks>,
): boolean {
  if (call.temperature === 0) return false
  if (call.doSample !== undefined) return call.doSample
  if (call.temperature !== undefined) return true
  // As in Hugging Face, a generation_config.json with a temperature but without do_sample is
  // greedy.
  return checkpoint.temperature !== 0 && checkpoint.doSample === true
}

function checkCheckpoint(
  checkpoint: Partial<GenerateOptions>,
  context: GenerateContext,
): Checked<typeof generateChecks> {
  try {
    return checkAll(checkpoint, generateChecks, context)
  } catch (cause) {
    throw new MoeppError('ERR_BAD_CONFIG', `generation_config.json: ${(cause as Error).message}`, {
      cause,
    })
  }
}

function routing(value: unknown, name: string): boolean | 'computed' | 'counts' {
  if (value === 'computed' || value === 'counts' || typeof value === 'boolean') return value
  throw wrong(name, "true, false, 'computed' or 'counts'", value, 'string')
}

function alternatives(value: unknown, name: string, { vocabSize }: GenerateContext): number {
  return integer(0, vocabSize)(value, name)
}

function tokenId(value: unknown, name: string, { vocabSize }: GenerateContext): number {
  return integer(0, vocabSize - 1)(value, name)
}

/** Biases that have been checked, for a vocabulary's size. Nothing changes them. */
const checkedBiases = new WeakMap<ReadonlyMap<number, number>, number>()

/** A copy, unless the check has made it: many texts of a server share one. */
function logitBias(
  value: unknown,
  name: string,
  context: GenerateContext,
): ReadonlyMap<number, number> {
  if (!isObject(value)) {
    throw new TypeError(
      `${name}: expected an object or Map from token id to number, got ${show(value)}`,
    )
  }
  if (value instanceof Map && checkedBiases.get(value) === context.vocabSize) return value
  const entries: Iterable<[unknown, unknown]> = value instanceof Map ? value : Object.entries(value)
  const biases = new Map<number, number>()
  for (const [key, bias] of entries) {
    // Keys of an object are strings; anything but an integer's plain spelling is as wrong as a
    // word.
    const id = typeof key === 'string' && /^(0|[1-9]\d*)$/.test(key) ? Number(key) : key
    const checkedId = tokenId(id, `${name}: token id`, context)
    if (typeof bias !== 'number' || !((bias >= -100 && bias <= 100) || bias === -Infinity)) {
      throw wrong(
        `${name}[${checkedId}]`,
        'a number >= -100 and <= 100, or -Infinity',
        bias,
        'number',
      )
    }
    biases.set(checkedId, bias)
  }
  checkedBiases.set(biases, context.vocabSize)
  return biases
}

function stop(value: unknown, name: string): readonly string[] {
  if (typeof value === 'string') return Object.freeze([text(value, name)])
  if (!Array.isArray(value)) {
    throw new TypeError(`${name}: expected a string or an array of strings, got ${show(value)}`)
  }
  return Object.freeze([...new Set(value.map((each, i) => text(each, `${name}[${i}]`)))])
}

function stopTokenIds(value: unknown, name: string, context: GenerateContext): readonly number[] {
  if (!Array.isArray(value))
    throw new TypeError(`${name}: expected an array of ids, got ${show(value)}`)
  return Object.freeze([...new Set(value.map((id, i) => tokenId(id, `${name}[${i}]`, context)))])
}
