/** The flags of `moepp generate`: one for every option of generation and of loading. */

import { type Command, InvalidArgumentError, Option } from 'commander'
import type { GenerateOptions, LoadOptions } from '../options.js'

/** What Ctrl-C and the progress bar provide, and what only a program can give. */
type NotFlags = 'signal' | 'onProgress' | 'logits'

/** Hub options are in source.ts. */
type HubOption = 'revision' | 'token' | 'endpoint' | 'cacheDir'

const GENERATE_FLAGS: Readonly<
  Record<Exclude<keyof GenerateOptions, NotFlags>, readonly Option[]>
> = {
  maxNewTokens: [number('--max-new-tokens <n>', 'most tokens to generate (default: 256)')],
  minNewTokens: [
    number('--min-new-tokens <n>', 'tokens before which the text may not end (default: 0)'),
  ],
  doSample: [
    new Option('--do-sample', 'draw tokens at random (default: if a temperature is given)'),
    new Option('--no-do-sample', 'always take the likeliest token'),
  ],
  temperature: [number('--temperature <t>', 'divides the logits; 0 is greedy (default: 1)')],
  topK: [number('--top-k <n>', 'draw from the n likeliest tokens; 0 is off (default: 50)')],
  topP: [
    number(
      '--top-p <p>',
      'draw from the likeliest tokens with this probability together (default: 1)',
    ),
  ],
  minP: [
    number(
      '--min-p <p>',
      'draw from tokens with this share of the largest probability (default: 0)',
    ),
  ],
  typicalP: [number('--typical-p <p>', 'probability mass kept by typical sampling (default: 1)')],
  repetitionPenalty: [
    number('--repetition-penalty <x>', 'above 1 repeats less, prompt included (default: 1)'),
  ],
  frequencyPenalty: [
    number('--frequency-penalty <x>', 'taken once for each earlier occurrence (default: 0)'),
  ],
  presencePenalty: [number('--presence-penalty <x>', 'taken if the token occurred (default: 0)')],
  noRepeatNgramSize: [
    number('--no-repeat-ngram-size <n>', 'no n-gram of this size twice (default: 0, off)'),
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
    new Option('--stop-token-ids <ids>', 'token ids that end the generation, by commas').argParser(
      parseIds,
    ),
  ],
  ignoreEos: [new Option('--ignore-eos', 'go on after the end-of-sequence token')],
  seed: [number('--seed <n>', 'same seed, same text (default: random)')],
  logprobs: [
    number('--logprobs <n>', 'with --json: log-probabilities, and n alternatives per token'),
  ],
  numReturnSequences: [number('--num-return-sequences <n>', 'texts to generate (default: 1)')],
  addSpecialTokens: [
    new Option(
      '--add-special-tokens',
      "the tokenizer's begin and end tokens (default: as the checkpoint says)",
    ),
    new Option('--no-add-special-tokens', 'the text alone'),
  ],
  routing: [new Option('--routing', 'with --json: experts and expert weights of each token')],
}

const LOAD_FLAGS: Readonly<
  Record<Exclude<keyof LoadOptions, NotFlags | HubOption>, readonly Option[]>
> = {
  device: [new Option('--device <name>', 'auto, cpu, cuda or cuda:N (default: auto)')],
  dtype: [
    new Option('--dtype <type>', 'type of the weights (default: auto)').choices([
      'auto',
      'float32',
      'bfloat16',
      'int8',
      'int4',
    ]),
  ],
  activationDtype: [
    new Option(
      '--activation-dtype <type>',
      'bfloat16: round what meets matrices in bfloat16, where the CPU is then faster (default: auto, exact)',
    ).choices(['auto', 'bfloat16']),
  ],
  kvCacheDtype: [
    new Option(
      '--kv-cache-dtype <type>',
      'type of the KV cache; auto: bfloat16 where activations are rounded, else float32 (default: auto)',
    ).choices(['auto', 'float32', 'bfloat16']),
  ],
  contextLength: [
    number('--context-length <n>', 'longest sequence in tokens (default: what the model has)'),
  ],
  isa: [
    new Option(
      '--isa <name>',
      "the CPU's instruction set (default: auto, the fastest for the type)",
    ),
  ],
  threads: [
    number('--threads <n>', 'CPU threads (default: what the machine and its control group allow)'),
  ],
  kvCacheTokens: [
    number('--kv-cache-tokens <n>', 'tokens that the KV cache holds (default: chosen)'),
  ],
  memoryCheck: [
    new Option('--no-memory-check', 'load a model even if it does not fit in available memory'),
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

export function addGenerateOptions(command: Command): Command {
  addLoadOptions(command)
  for (const option of Object.values(GENERATE_FLAGS).flat()) {
    command.addOption(option.helpGroup('Generation options:'))
  }
  return command
}

/** The options of generation among parsed flags. */
export function generateOptions(flags: GenerateOptions): GenerateOptions {
  return pick(flags, Object.keys(GENERATE_FLAGS) as (keyof typeof GENERATE_FLAGS)[])
}

/** The options of loading among parsed flags, those of the hub included. */
export function loadOptions(flags: LoadOptions): LoadOptions {
  const hub: HubOption[] = ['revision', 'token', 'endpoint', 'cacheDir']
  return pick(flags, [...(Object.keys(LOAD_FLAGS) as (keyof typeof LOAD_FLAGS)[]), ...hub])
}

function pick<T extends object>(flags: T, names: readonly (keyof T)[]): T {
  return Object.fromEntries(
    names.filter(name => flags[name] !== undefined).map(name => [name, flags[name]]),
  ) as T
}

function number(flags: string, description: string): Option {
  return new Option(flags, description).argParser(parseNumber)
}

/** The range is the option's own check. */
function parseNumber(text: string): number {
  const value = Number(text)
  if (text.trim() === '' || Number.isNaN(value))
    throw new InvalidArgumentError('Expected a number.')
  return value
}

function parseIds(text: string): number[] {
  return text.split(',').map(parseNumber)
}

function collect(text: string, before: readonly string[] = []): string[] {
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
