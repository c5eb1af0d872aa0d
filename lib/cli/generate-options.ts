/** The flags of `moepp generate`: one for every option of generation and of loading. */

import { readFileSync } from 'node:fs'
import { type Command, InvalidArgumentError, Option } from 'commander'
import { NOT_OF_CHATS } from '../chat/chat-options.js'
import type { GenerateOptions, LoadOptions } from '../options/generate.js'
import type { Grammar } from '../options/grammar.js'
import { MATRIX_TYPES } from '../options/load.js'

/** Provided by Ctrl-C and the progress bar, or by a program alone. */
type NotFlags = 'signal' | 'onProgress' | 'logits' | 'admit'

/** Hub options are in source.ts. */
type HubOption = 'revision' | 'token' | 'endpoint' | 'cacheDir'

/** Of commands that a group of processes can run. */
type GroupOption = 'parallel' | 'placement' | 'parallelDeadlineMs'

const GENERATE_FLAGS: Readonly<
  Record<Exclude<keyof GenerateOptions, NotFlags>, readonly Option[]>
> = {
  maxNewTokens: [
    number(
      '--max-new-tokens <n>',
      'largest number of tokens to generate (default: 256; in a chat as many as the context holds)',
    ),
  ],
  minNewTokens: [
    number(
      '--min-new-tokens <n>',
      'smallest number of tokens before the text may end (default: 0)',
    ),
  ],
  doSample: [
    new Option('--do-sample', 'draw tokens at random (default: only with --temperature)'),
    new Option('--no-do-sample', 'always take the most likely token'),
  ],
  temperature: [number('--temperature <t>', 'divides the logits; 0 is greedy (default: 1)')],
  topK: [number('--top-k <n>', 'draw from the n most likely tokens; 0 is off (default: 50)')],
  topP: [
    number(
      '--top-p <p>',
      'draw from the fewest tokens whose probabilities add up to p (default: 1, off)',
    ),
  ],
  minP: [
    number(
      '--min-p <p>',
      'leave out tokens below p times the largest probability (default: 0, off)',
    ),
  ],
  typicalP: [
    number('--typical-p <p>', 'probability that typical sampling keeps (default: 1, off)'),
  ],
  repetitionPenalty: [
    number('--repetition-penalty <x>', 'above 1: repeat prompt and text less (default: 1, off)'),
  ],
  frequencyPenalty: [
    number(
      '--frequency-penalty <x>',
      "subtracted from a token's logit each time it occurred (default: 0)",
    ),
  ],
  presencePenalty: [
    number('--presence-penalty <x>', 'subtracted once if the token occurred (default: 0)'),
  ],
  noRepeatNgramSize: [
    number('--no-repeat-ngram-size <n>', 'never repeat n tokens in a row (default: 0, off)'),
  ],
  logitBias: [
    new Option('--logit-bias <id=x>', "added to a token's logit; may be repeated").argParser(
      parseBias,
    ),
  ],
  stop: [
    new Option('--stop <text>', 'text that ends the generation; may be repeated').argParser(
      collect,
    ),
  ],
  stopTokenIds: [
    new Option(
      '--stop-token-ids <ids>',
      'token ids that end the generation, separated by commas',
    ).argParser(parseIds),
  ],
  ignoreEos: [new Option('--ignore-eos', 'continue after the end-of-sequence token')],
  seed: [number('--seed <n>', 'same seed, same text (default: random)')],
  logprobs: [
    number('--logprobs <n>', 'report log-probabilities, and n alternatives per token (in JSON)'),
  ],
  promptLogprobs: [
    number('--prompt-logprobs <n>', 'the same for each token of the prompt (in JSON)'),
  ],
  numReturnSequences: [number('--num-return-sequences <n>', 'texts to generate (default: 1)')],
  addSpecialTokens: [
    new Option(
      '--add-special-tokens',
      "add the tokenizer's begin and end tokens (default: from the checkpoint)",
    ),
    new Option('--no-add-special-tokens', 'add no such tokens'),
  ],
  splitSpecialTokens: [
    new Option('--split-special-tokens', 'take special tokens in prompts for ordinary characters'),
  ],
  speculate: [
    new Option(
      '--speculate',
      'guess tokens from earlier text: the same text, faster where it repeats itself',
    ),
  ],
  routing: [new Option('--routing', 'report experts and expert weights per token (in JSON)')],
  grammar: [
    new Option('--json-schema <file>', 'the text is JSON that is valid by this schema')
      .argParser(parseSchema)
      .conflicts(['regex', 'ebnf']),
    new Option(
      '--regex <pattern>',
      'the text matches this regular expression as a whole',
    ).conflicts('ebnf'),
    new Option('--ebnf <file>', 'the text follows this grammar').argParser(readText),
  ],
}

const LOAD_FLAGS: Readonly<
  Record<Exclude<keyof LoadOptions, NotFlags | HubOption | GroupOption>, readonly Option[]>
> = {
  device: [new Option('--device <name>', 'auto, cpu, cuda or cuda:N (default: auto)')],
  dtype: [
    new Option('--dtype <type>', 'type of the weights')
      .choices(['auto', ...MATRIX_TYPES])
      .default(undefined, 'auto'),
  ],
  activationDtype: [
    new Option(
      '--activation-dtype <type>',
      'bfloat16 rounds matmul inputs where that is faster; auto is exact',
    )
      .choices(['auto', 'bfloat16'])
      .default(undefined, 'auto'),
  ],
  kvCacheDtype: [
    new Option(
      '--kv-cache-dtype <type>',
      'type of the KV cache; auto is bfloat16 for quantised weights and rounded inputs',
    )
      .choices(['auto', 'float32', 'bfloat16'])
      .default(undefined, 'auto'),
  ],
  contextLength: [
    number('--context-length <n>', 'longest sequence in tokens (default: from the model)'),
  ],
  isa: [
    new Option(
      '--isa <name>',
      "the CPU's instruction set; moepp doctor lists them (default: auto, the fastest)",
    ),
  ],
  threads: [number('--threads <n>', 'CPU threads (default: all that the process may use)')],
  kvCacheTokens: [
    number(
      '--kv-cache-tokens <n>',
      'tokens that the KV cache holds (default: from the context length)',
    ),
  ],
  memoryCheck: [
    new Option('--no-memory-check', 'load a model even if it does not fit in available memory'),
  ],
}

const GROUP_FLAGS: Readonly<Record<GroupOption, readonly Option[]>> = {
  parallel: [
    new Option(
      '--expert-parallel',
      'under mpirun: all ranks run one model, each with a part of its FFN experts; with --device cuda on a GPU each',
    ).implies({ parallel: 'mpi' }),
  ],
  placement: [
    new Option('--placement <file>', 'the ranks of each FFN expert (default: neighbours together)'),
  ],
  parallelDeadlineMs: [
    number('--parallel-deadline-ms <ms>', 'time that a rank waits for another (default: 30000)'),
  ],
}

/** Options of loading: all of them, or those of `names`. */
export function addLoadOptions(
  command: Command,
  names = Object.keys(LOAD_FLAGS) as (keyof typeof LOAD_FLAGS)[],
): Command {
  for (const option of names.flatMap(name => LOAD_FLAGS[name])) {
    command.addOption(option.helpGroup('Model options:'))
  }
  return command
}

export function addGroupOptions(command: Command): Command {
  for (const option of Object.values(GROUP_FLAGS).flat())
    command.addOption(option.helpGroup('Options of several processes:'))
  return command
}

type GenerateFlag = keyof typeof GENERATE_FLAGS

const GENERATE_NAMES = Object.keys(GENERATE_FLAGS) as GenerateFlag[]

/** Those that a chat has, too. */
export const CHAT_NAMES = GENERATE_NAMES.filter(name => !NOT_OF_CHATS.includes(name))

/** Options of loading and generation: all of them, or of the latter those of `names`. */
export function addGenerateOptions(command: Command, names = GENERATE_NAMES): Command {
  addLoadOptions(command)
  for (const option of names.flatMap(name => GENERATE_FLAGS[name])) {
    command.addOption(option.helpGroup('Generation options:'))
  }
  return command
}

/** Flags whose names are the kinds of a grammar. */
export interface GrammarFlags {
  readonly jsonSchema?: object
  readonly regex?: string
  readonly ebnf?: string
}

/** The options of generation among parsed flags. */
export function generateOptions(flags: GenerateOptions & GrammarFlags): GenerateOptions {
  const options = pick(flags, GENERATE_NAMES)
  const grammar = pick(flags, ['jsonSchema', 'regex', 'ebnf'])
  return Object.keys(grammar).length === 0 ? options : { ...options, grammar: grammar as Grammar }
}

/** The options of loading among parsed flags, those of the hub included. */
export function loadOptions(flags: LoadOptions): LoadOptions {
  const hub: HubOption[] = ['revision', 'token', 'endpoint', 'cacheDir']
  const names = [...Object.keys(LOAD_FLAGS), ...Object.keys(GROUP_FLAGS)] as (keyof LoadOptions)[]
  const picked = pick(flags, [...names, ...hub])
  const isGpu = picked.device?.startsWith('cuda')
  return picked.parallel && isGpu ? { ...picked, parallel: 'nccl' } : picked
}

/** The flags of `names` that are given. */
export function pick<T extends object, K extends keyof T>(
  flags: T,
  names: readonly K[],
): Pick<T, K> {
  return Object.fromEntries(
    names.filter(name => flags[name] !== undefined).map(name => [name, flags[name]]),
  ) as Pick<T, K>
}

/** An option whose value is a number. */
export function number(flags: string, description: string): Option {
  return new Option(flags, description).argParser(parseNumber)
}

/** The range is the option's own check. */
function parseNumber(text: string): number {
  const value = Number(text)
  if (text.trim() === '' || Number.isNaN(value))
    throw new InvalidArgumentError('Expected a number.')
  return value
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    throw new InvalidArgumentError(`Cannot be read: ${(error as Error).message}`)
  }
}

function parseSchema(file: string): unknown {
  try {
    return JSON.parse(readText(file))
  } catch (error) {
    if (error instanceof InvalidArgumentError) throw error
    throw new InvalidArgumentError(`Expected JSON: ${(error as Error).message}`)
  }
}

function parseIds(text: string): number[] {
  return text.split(',').map(parseNumber)
}

export function collect(text: string, before: readonly string[] = []): string[] {
  return [...before, text]
}

function parseBias(
  text: string,
  before: ReadonlyMap<number, number> = new Map(),
): Map<number, number> {
  const [, id, bias] = /^(\d+)=(.+)$/.exec(text) ?? []
  if (id === undefined)
    throw new InvalidArgumentError('Expected a token id and a number, like 13=-2.5.')
  return new Map([...before, [Number(id), parseNumber(bias!)]])
}
