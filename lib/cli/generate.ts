/** `moepp generate`: continues a prompt, or each prompt of a file. */

import { realpathSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { Command } from 'commander'
import { packageRoot } from '../addon/addon-file.js'
import type { Model } from '../generation/model.js'
import type { GenerateResult } from '../generation/results.js'
import type { GenerateOptions, LoadOptions } from '../options/generate.js'
import { generateBatch } from './batch.js'
import { type CreateCommand, runWork, type Work } from './command.js'
import { checkUsage } from './errors.js'
import { inGroup } from './follower.js'
import { checkOutputFlags, checkSequences, warnIgnored } from './generate-checks.js'
import { ModelSource } from './generate-model.js'
import {
  addGenerateOptions,
  addGroupOptions,
  type GrammarFlags,
  generateOptions,
} from './generate-options.js'
import { figuresLine, jsonDocument } from './generate-report.js'
import { addModelOption, requireModel } from './model-option.js'
import { addHubOptions } from './source.js'
import type { Terminal } from './terminal.js'

export type GenerateFlags = GenerateOptions &
  GrammarFlags &
  LoadOptions & {
    readonly model?: string
    readonly prompts?: string
    readonly out?: string
    readonly echo?: true
    readonly json?: true
  }

const DEFAULT_PROMPT = 'The old man'

const EXAMPLE = 'moepp generate --model ./my-model "The old man"'

export const generateCommand: CreateCommand = (terminal, setExitCode) => {
  const command = new Command('generate')
    .description(
      'Continues a prompt. The text goes to standard output while it is generated; speed and other figures go to standard error.',
    )
    .argument(
      '[prompt]',
      `the text to continue; - reads it from standard input (default: "${DEFAULT_PROMPT}")`,
    )
    .option('--prompts <file>', 'continue each prompt of a JSON Lines file; - is standard input')
    .option(
      '--out <file>',
      'with --prompts: write the results there; an unfinished file is resumed',
    )
    .option('--echo', 'print the prompt before the text')
    .option('--json', 'print one JSON document: text, token ids, usage, timings')
    .addHelpText('after', EXPLANATION)
    .action((prompt: string | undefined, flags: GenerateFlags) =>
      runWork(
        terminal,
        setExitCode,
        inGroup(flags, work => {
          checkOutputFlags(prompt, flags)
          const model = requireModel(flags, EXAMPLE)
          if (flags.prompts === undefined) return generate(prompt, model, flags, terminal, work)
          return generateBatch({ ...flags, model, prompts: flags.prompts }, terminal, work).then(
            setExitCode,
          )
        }),
      ),
    )
  return addHubOptions(addGroupOptions(addGenerateOptions(addModelOption(command))))
}

const EXPLANATION = `
A line of the --prompts file is {"prompt": "...", "id": ..., "maxNewTokens": ...}, or a string.
"id" and options are optional; an option, in camelCase, replaces the flag for its line. Each line
of the result has the same "id" (default: the line's number), and comes in the same order. With
--seed N each line gets the text that a run of its own gives with that seed.

Examples:
  $ moepp generate --model npm:moepp-books-7m "The old man"
  $ moepp generate --model npm:moepp-books-7m --temperature 0.8 --seed 1 --stop "." "Once upon a time"
  $ moepp generate --model hf:Chat-UniVi/MoE-Plus-Plus-7B --dtype bfloat16 - < prompt.txt
  $ moepp generate --model npm:moepp-books-7m --json --logprobs 5 "The old man" | jq .logprobs
  $ moepp generate --model npm:moepp-books-7m --prompts prompts.jsonl --out results.jsonl
`

async function generate(
  given: string | undefined,
  name: string,
  flags: GenerateFlags,
  terminal: Terminal,
  { progress, interrupt }: Work,
): Promise<void> {
  const signal = AbortSignal.any([interrupt.signal, terminal.closed])
  // The figures include the share of FFN experts, which routing gives.
  const options = { ...generateOptions(flags), routing: true, signal }
  const source = new ModelSource(name, flags, progress, signal)
  source.checkEarly(options)
  const prompt = given === '-' ? await readPrompt(terminal) : (given ?? DEFAULT_PROMPT)
  const { resolve } = await source.open()
  const resolved = checkUsage(() => resolve(options))
  checkUsage(() => checkSequences(resolved))
  warnIgnored(flags, resolved, terminal)
  await using model = await source.load()
  if (isBundled(name)) {
    terminal.note('books-7m is a demonstration: 7 million parameters, trained on old books')
  }
  if (flags.json) {
    const results = await generateAll(model, prompt, options)
    await terminal.writeJson(jsonDocument(name, prompt, results, flags.routing === true))
    return
  }
  const results = await printText(model, prompt, options, flags.echo === true, terminal)
  await terminal.flush()
  if (!terminal.closed.aborted) terminal.figures(figuresLine(results, model.config))
}

/**
 * Without the line break that `echo` and editors put at the end: it would be a part of the prompt.
 */
async function readPrompt({ stdin }: Terminal): Promise<string> {
  return (await text(stdin)).replace(/\r?\n$/, '')
}

/** One text as it is generated; several, which are generated at once, when all are there. */
async function printText(
  model: Model,
  prompt: string,
  options: GenerateOptions,
  echo: boolean,
  terminal: Terminal,
): Promise<GenerateResult[]> {
  const before = echo ? prompt : ''
  if ((options.numReturnSequences ?? 1) > 1) {
    const results = await generateAll(model, prompt, options)
    for (const [i, result] of results.entries()) {
      await terminal.write(`${i > 0 ? '\n' : ''}[${i + 1}] ${endLine(before + result.text)}`)
    }
    return results
  }
  const stream = model.stream(prompt, options)
  let last = before
  await terminal.write(before)
  for await (const { text } of stream) {
    await terminal.write(text)
    if (text !== '') last = text
  }
  if (!last.endsWith('\n')) await terminal.write('\n')
  return [await stream.result]
}

function endLine(text: string): string {
  return text.endsWith('\n') ? text : `${text}\n`
}

async function generateAll(
  model: Model,
  prompt: string,
  options: GenerateOptions,
): Promise<GenerateResult[]> {
  const results = await model.generate(prompt, options)
  return Array.isArray(results) ? results : [results]
}

function isBundled(model: string): boolean {
  try {
    return realpathSync(model) === realpathSync(join(packageRoot(), 'models', 'books-7m'))
  } catch {
    return false
  }
}
