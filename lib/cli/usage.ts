/** Messages for wrong command lines, with a hint for people who know other tools. */

import type { Command, CommanderError } from 'commander'

/** Options of other tools, and ours for the same thing. Without dashes, in kebab case. */
const OTHER_OPTIONS: Readonly<Record<string, string>> = {
  'max-tokens': 'max-new-tokens',
  'max-completion-tokens': 'max-new-tokens',
  'max-length': 'max-new-tokens',
  'n-predict': 'max-new-tokens',
  'num-predict': 'max-new-tokens',
  predict: 'max-new-tokens',
  n: 'max-new-tokens',
  'min-tokens': 'min-new-tokens',
  temp: 'temperature',
  'repeat-penalty': 'repetition-penalty',
  typical: 'typical-p',
  'num-samples': 'num-return-sequences',
  'best-of': 'num-return-sequences',
  'stop-sequences': 'stop',
  'reverse-prompt': 'stop',
  r: 'stop',
  s: 'seed',
  m: 'model',
  'model-path': 'model',
  'ctx-size': 'context-length',
  'num-ctx': 'context-length',
  'max-model-len': 'context-length',
  c: 'context-length',
  t: 'threads',
  'num-threads': 'threads',
  'n-gpu-layers': 'device',
  'gpu-layers': 'device',
  ngl: 'device',
  quantization: 'dtype',
  quantize: 'dtype',
  'cache-type-k': 'kv-cache-dtype',
  'kv-cache-type': 'kv-cache-dtype',
  'hf-token': 'token',
  'prompt-file': 'prompts',
  'input-file': 'prompts',
  file: 'prompts',
  f: 'prompts',
  output: 'out',
  'output-file': 'out',
  'output-path': 'out',
  o: 'out',
  format: 'output',
  'system-prompt': 'system',
  sys: 'system',
  'num-fewshot': 'shots',
  'chat-template-kwargs': 'template-variable',
}

const PROMPT_OPTIONS = ['prompt', 'p', 'text', 'input']

/** Commands of other tools. */
const OTHER_COMMANDS: Readonly<Record<string, string>> = {
  run: 'to talk with a model: moepp chat --model MODEL; to continue a prompt: moepp generate',
  talk: 'to talk with a model: moepp chat --model MODEL',
  complete: 'to continue a prompt: moepp generate --model MODEL "The old man"',
  quantize: 'to quantise a checkpoint: moepp convert MODEL OUT-DIR --dtype int8',
  quantise: 'to quantise a checkpoint: moepp convert MODEL OUT-DIR --dtype int8',
  pull: 'each command downloads its model; to download only: moepp inspect hf:OWNER/NAME',
  download: 'each command downloads its model; to download only: moepp inspect hf:OWNER/NAME',
  info: 'to describe a checkpoint: moepp inspect MODEL',
  evaluate: 'to score a model on data sets: moepp eval --model MODEL --tasks FILE',
  perplexity: 'to score a model on a text: moepp eval --model MODEL --tasks FILE.txt',
  show: 'to describe a checkpoint: moepp inspect MODEL',
}

/** The text to print for an error that commander found. */
export function usageMessage(
  error: CommanderError,
  program: Command,
  args: readonly string[],
): string {
  const message = error.message.replace(/^error: /, '')
  const commandOf = (name: string) => program.commands.find(each => each.name() === name)
  const command = args.map(commandOf).find(each => each !== undefined)
  const [, quoted = ''] = /'(.*?)'/s.exec(message) ?? []
  if (error.code === 'commander.unknownOption') {
    const hint = optionHint(quoted, command ?? program)
    return hint === undefined ? message : `unknown option '${quoted}': ${hint}`
  }
  if (error.code === 'commander.unknownCommand') {
    const hint = commandHint(quoted)
    return hint === undefined ? message : `unknown command '${quoted}': ${hint}`
  }
  if (error.code === 'commander.excessArguments' && command?.name() === 'generate')
    return `${message}\nQuote a prompt of several words: moepp generate "The old man"`
  return message
}

function optionHint(flag: string, command: Command): string | undefined {
  const name = flag
    .replace(/^-+/, '')
    .replaceAll('_', '-')
    .replaceAll(/(?<=[a-z])[A-Z]/g, letter => `-${letter}`)
    .toLowerCase()
  const has = (long: string) => command.options.some(option => option.long === `--${long}`)
  if (has(name)) return `did you mean --${name}?`
  if (command.name() === 'generate' && PROMPT_OPTIONS.includes(name))
    return 'the prompt is an argument: moepp generate "The old man"'
  const ours = Object.hasOwn(OTHER_OPTIONS, name) ? OTHER_OPTIONS[name]! : undefined
  return ours !== undefined && has(ours) ? `moepp calls it --${ours}` : undefined
}

function commandHint(name: string): string | undefined {
  if (Object.hasOwn(OTHER_COMMANDS, name)) return OTHER_COMMANDS[name]
  return /\s/.test(name) ? 'to continue a prompt: moepp generate "The old man"' : undefined
}
