/**
 * The options of generation and loading: their names, ranges and defaults, and the checks that turn
 * what a caller passed into a complete, frozen record. An unknown option or a wrong value is a
 * TypeError or RangeError that names it.
 */

import { loadBinding } from './binding.js'
import { MoeppError } from './errors.js'
import type { DownloadProgress } from './hub.js'
import {
  boolean,
  type Check,
  type Checked,
  checkAll,
  integer,
  number,
  oneOf,
  show,
  signal,
  text,
  wrong,
} from './option-checks.js'
import { type LogitsHook, logitsHook } from './sampling/logits-hook.js'
import { randomSeed } from './sampling/rng.js'

/** Options of `generate` and `stream`. An option that is undefined counts as not given. */
export interface GenerateOptions {
  /** Most tokens to generate, >= 1. Default 256; the context bounds it too. */
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
  /** Same seed, same text. A safe integer. Default: random. */
  seed?: number
  /**
   * Report log-probabilities, with this many alternatives per token, 0 to the vocabulary's size.
   * Default: do not.
   */
  logprobs?: number
  /** Texts to generate for the prompt, >= 1; each has random numbers of its own. Default 1. */
  numReturnSequences?: number
  /**
   * Add the tokenizer's begin and end tokens to the prompt. Default: what the checkpoint's
   * tokenizer_config says.
   */
  addSpecialTokens?: boolean
  /** Ends the generation early. */
  signal?: AbortSignal
  /** Report the experts and expert weights of each token. Default false. */
  routing?: boolean
  /**
   * Called for each new token of each text, to change its logits in place.
   *
   * It takes part where Hugging Face puts a caller's LogitsProcessor: after the penalties,
   * `logitBias` and `minNewTokens`, before temperature, topK, topP, minP and typicalP. The option
   * `logprobs` still reports the model's own distribution. See LogitsHook for the arguments.
   *
   * It must be synchronous, and other texts wait while it runs. A hook makes the device return the
   * whole row of logits, which the sampler copies and checks. That costs about 0.6 ms for each new
   * token at a vocabulary of 65,536, besides what the hook itself does; without a hook a token
   * takes 0.01 ms (2026-11, one busy core of an AMD EPYC).
   *
   * What the hook throws ends its call, which rejects with it, and no other call. NaN, +Infinity,
   * or a row of -Infinity alone is a RangeError; a promise, or a detached array, is a TypeError.
   */
  logits?: LogitsHook
}

/** GenerateOptions, checked, with every default filled in. */
export interface ResolvedOptions
  extends Readonly<
    Required<
      Omit<
        GenerateOptions,
        'logitBias' | 'stop' | 'logprobs' | 'addSpecialTokens' | 'signal' | 'logits'
      >
    >
  > {
  readonly logitBias: ReadonlyMap<number, number>
  readonly stop: readonly string[]
  readonly logprobs: number | undefined
  readonly addSpecialTokens: boolean | undefined
  readonly signal: AbortSignal | undefined
  readonly logits: LogitsHook | undefined
}

/**
 * Progress of loadModel: bytes of all files together, first fetched from the hub, then read into
 * the device.
 */
export type LoadProgress = DownloadProgress | ReadProgress

export interface ReadProgress {
  readonly stage: 'load'
  readonly doneBytes: number
  readonly totalBytes: number
}

/** Options of `loadModel`. */
export interface LoadOptions {
  /**
   * Where to run; 'cuda' is 'cuda:0'. 'auto' is the first CUDA device if the model loads on it,
   * else the CPU, with a warning if the GPU that is there cannot be used. Default 'auto'.
   */
  device?: 'auto' | 'cpu' | 'cuda' | `cuda:${number}`
  /**
   * Type of the weights on the device. 'auto' takes the checkpoint's, where the device has it.
   * 'int8' and 'int4' quantise while loading: 'int8' all matrices, 'int4' the FFN experts, with
   * attention and head in int8. A checkpoint that `moepp convert` has quantised opens as what it
   * is. Default 'auto'.
   */
  dtype?: 'auto' | MatrixType
  /**
   * Type of what is multiplied with matrices in bfloat16. 'bfloat16' lets it be rounded to that, as
   * other engines do, where the CPU then multiplies faster (instruction set avx512bf16); the KV
   * cache is bfloat16, too, unless `kvCacheDtype` says otherwise. 'auto' keeps it float32 on the
   * CPU, so that products are exact; a GPU rounds for many tokens in any case. Default 'auto'.
   */
  activationDtype?: 'auto' | 'bfloat16'
  /**
   * Type of the KV cache. 'auto' is bfloat16 for int8 and int4, for bfloat16 on a GPU, and with
   * `activationDtype: 'bfloat16'`; else float32. Default 'auto'.
   */
  kvCacheDtype?: 'auto' | 'float32' | 'bfloat16'
  /**
   * Longest sequence, >= 1. Default: the model's max_position_embeddings, but 4096 at least and
   * 32768 at most.
   */
  contextLength?: number
  /**
   * Instruction set of the CPU's kernels, one that `moepp doctor` lists. Sets differ in the last
   * bits of results: name one where another run, or another machine, must give the same. It asks
   * for the CPU: with 'auto' as the device no GPU is taken. Default 'auto': the first of that list,
   * unless a short measurement with `dtype` finds another clearly faster.
   */
  isa?: 'auto' | Isa
  /**
   * CPU threads, 1 to 1024; models with the same number share one pool. More than there are cores
   * is slower. Default: what the machine and its control group allow.
   */
  threads?: number
  /**
   * Tokens that the KV cache holds, of all sequences together, >= 1. Default: the context length,
   * but 8192 at least.
   */
  kvCacheTokens?: number
  onProgress?: (progress: LoadProgress) => void
  /** Ends the load early. */
  signal?: AbortSignal
  /** Branch, tag or commit on the hub. Default: the hub's main branch. */
  revision?: string
  /** Access token of the hub. */
  token?: string
  /** Address of the hub, http or https. */
  endpoint?: string
  /** Directory of downloaded checkpoints. */
  cacheDir?: string
}

/** Types of the matrices on a device. */
export type MatrixType = 'float32' | 'bfloat16' | 'int8' | 'int4'

/** Instruction sets that a build may hold, and a processor may have. */
export type Isa =
  | 'amx'
  | 'avx512bf16'
  | 'avx512vnni'
  | 'avx512'
  | 'avxvnni'
  | 'avx2'
  | 'neondot'
  | 'neon'
  | 'scalar'

/**
 * LoadOptions, checked; what is undefined is left to the part that knows the model, the device or
 * the hub.
 */
export interface ResolvedLoadOptions
  extends Readonly<
    Omit<LoadOptions, 'device' | 'dtype' | 'activationDtype' | 'kvCacheDtype' | 'isa'>
  > {
  readonly device: 'auto' | 'cpu' | `cuda:${number}`
  readonly dtype: 'auto' | MatrixType
  readonly activationDtype: 'auto' | 'bfloat16'
  readonly kvCacheDtype: 'auto' | 'float32' | 'bfloat16'
  /** If it is not 'auto', the device is 'cpu'. */
  readonly isa: 'auto' | Isa
}

export interface GenerateContext {
  readonly vocabSize: number
}

const generateChecks = {
  maxNewTokens: integer(1),
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
  logprobs: (value, name, { vocabSize }) => integer(0, vocabSize)(value, name),
  numReturnSequences: integer(1),
  addSpecialTokens: boolean,
  signal,
  routing: boolean,
  logits: logitsHook,
} satisfies Record<keyof GenerateOptions, Check<unknown, GenerateContext>>

const loadChecks = {
  device,
  dtype: oneOf('auto', 'float32', 'bfloat16', 'int8', 'int4'),
  activationDtype: oneOf('auto', 'bfloat16'),
  kvCacheDtype: oneOf('auto', 'float32', 'bfloat16'),
  contextLength: integer(1),
  isa,
  threads: integer(1, 1024),
  kvCacheTokens: integer(1),
  onProgress,
  signal,
  revision: text,
  token,
  endpoint,
  cacheDir: text,
} satisfies Record<keyof LoadOptions, Check<unknown, undefined>>

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
    numReturnSequences: given.numReturnSequences ?? 1,
    addSpecialTokens: given.addSpecialTokens,
    signal: given.signal,
    routing: given.routing ?? false,
    logits: given.logits,
  })
}

/** Whether to sample: what the call says, else what the checkpoint says. */
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

export function resolveLoadOptions(options: LoadOptions): ResolvedLoadOptions {
  const given = checkAll(options, loadChecks, undefined)
  const { device = 'auto', isa = 'auto' } = given
  if (isa !== 'auto' && device.startsWith('cuda')) {
    throw new RangeError(
      `isa: applies to the CPU only; expected "auto" with device ${show(device)}, got ${show(isa)}`,
    )
  }
  return Object.freeze<ResolvedLoadOptions>({
    ...given,
    device: isa === 'auto' ? device : 'cpu',
    isa,
    dtype: given.dtype ?? 'auto',
    activationDtype: given.activationDtype ?? 'auto',
    kvCacheDtype: given.kvCacheDtype ?? 'auto',
  })
}

function tokenId(value: unknown, name: string, { vocabSize }: GenerateContext): number {
  return integer(0, vocabSize - 1)(value, name)
}

function logitBias(
  value: unknown,
  name: string,
  context: GenerateContext,
): ReadonlyMap<number, number> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new TypeError(
      `${name}: expected an object or Map from token id to number, got ${show(value)}`,
    )
  }
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

function onProgress(value: unknown, name: string): (progress: LoadProgress) => void {
  if (typeof value !== 'function')
    throw new TypeError(`${name}: expected a function, got ${show(value)}`)
  return value as (progress: LoadProgress) => void
}

function device(value: unknown, name: string): ResolvedLoadOptions['device'] {
  if (value === 'cuda') return 'cuda:0'
  if (typeof value !== 'string' || !/^(auto|cpu|cuda:(0|[1-9]\d?))$/.test(value)) {
    throw wrong(name, 'one of "auto", "cpu", "cuda", "cuda:N"', value, 'string')
  }
  return value as ResolvedLoadOptions['device']
}

/** One of the sets that this build has and this processor can run. */
function isa(value: unknown, name: string): 'auto' | Isa {
  if (value === 'auto') return value
  return oneOf('auto', ...(loadBinding().processor().isas as Isa[]))(value, name)
}

/** The value is a secret: no message shows it. */
function token(value: unknown, name: string): string {
  if (typeof value !== 'string' || value === '') {
    const got = value === '' ? '""' : `a value of type ${typeof value}`
    throw new TypeError(`${name}: expected a string that is not empty, got ${got}`)
  }
  return value
}

function endpoint(value: unknown, name: string): string {
  const url = typeof value === 'string' && URL.canParse(value) ? new URL(value) : undefined
  if (url?.protocol !== 'http:' && url?.protocol !== 'https:') {
    throw wrong(name, 'an http or https address', value, 'string')
  }
  return value as string
}
