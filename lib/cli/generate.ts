/** `moepp generate`: continues a prompt. */

import { realpathSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { Command } from 'commander'
import { packageRoot } from '../addon-file.js'
import type { Model } from '../generation/model.js'
import type { GenerateResult } from '../generation/results.js'
import { loadModel } from '../load.js'
import {
  type GenerateOptions,
  type LoadOptions,
  resolveGenerateOptions,
  resolveLoadOptions,
} from '../options.js'
import { type CreateCommand, runWork, type Work } from './command.js'
import { checkUsage } from './errors.js'
import { addGenerateOptions, generateOptions, loadOptions } from './generate-options.js'
import { figuresLine, jsonDocument } from './generate-report.js'
import type { Output } from './output.js'
import { addHubOptions, MODEL_ARGUMENT, showProgress } from './source.js'

type GenerateFlags = GenerateOptions &
  LoadOptions & {
    readonly model: string
    readonly echo?: true
    readonly json?: true
  }

const DEFAULT_PROMPT = 'The old man'

export const generateCommand: CreateCommand = (output, setExitCode) => {
  const command = new Command('generate')
    .description(
      'Continues a prompt and prints the text as it comes, then a line of figures on standard error.',
    )
    .argument(
      '[prompt]',
      `the text to continue; - reads it from standard input (default: "${DEFAULT_PROMPT}")`,
    )
    .requiredOption('--model <model>', MODEL_ARGUMENT)
    .option('--echo', 'print the prompt before the text')
    .option('--json', 'print one JSON document: text, token ids, usage, timings')
    .addHelpText('after', EXAMPLES)
    .action((prompt: string | undefined, flags: GenerateFlags) =>
      runWork(output, setExitCode, work => generate(prompt, flags, output, work)),
    )
  return addHubOptions(addGenerateOptions(command))
}

const EXAMPLES = `
Examples:
  $ moepp generate --model models/books-7m "The old man"
  $ moepp generate --model models/books-7m --temperature 0.8 --seed 1 --stop "." "Once upon a time"
  $ moepp generate --model Chat-UniVi/MoE-Plus-Plus-7B --dtype bfloat16 - < prompt.txt
  $ moepp generate --model models/books-7m --json --logprobs 5 "The old man" | jq .logprobs
`

async function generate(
  given: string | undefined,
  flags: GenerateFlags,
  output: Output,
  { progress, interrupt }: Work,
): Promise<void> {
  const signal = AbortSignal.any([interrupt.signal, output.closed])
  // The figures want the share of FFN experts, which routing gives.
  const options = { ...generateOptions(flags), routing: true, signal }
  const load = { ...loadOptions(flags), signal, onProgress: showProgress(progress) }
  // A wrong option is found before the model is loaded, as far as it does not depend on it.
  checkUsage(() => resolveLoadOptions(load))
  checkUsage(() => resolveGenerateOptions(options, {}, { vocabSize: Number.MAX_SAFE_INTEGER }))
  const prompt = given === '-' ? await readPrompt() : (given ?? DEFAULT_PROMPT)
  await using model = await loadModel(flags.model, load)
  progress.stop()
  checkUsage(() => resolveGenerateOptions(options, {}, model.config))
  if (isBundled(flags.model)) {
    process.stderr.write(
      'moepp: books-7m is a demonstration, a model of 7 million parameters trained on old books\n',
    )
  }
  if (flags.json) {
    const results = await generateAll(model, prompt, options)
    await output.writeJson(jsonDocument(flags.model, prompt, results, flags.routing === true))
    return
  }
  const results = await printText(model, prompt, options, flags.echo === true, output)
  if (!output.closed.aborted) process.stderr.write(`${figuresLine(results, model.config)}\n`)
}

/**
 * Without the line break that `echo` and editors put at the end: it would be a part of the prompt.
 */
async function readPrompt(): Promise<string> {
  return (await text(process.stdin)).replace(/\r?\n$/, '')
}

/** One text as it is generated; several, which are generated at once, when all are there. */
async function printText(
  model: Model,
  prompt: string,
  options: GenerateOptions,
  echo: boolean,
  output: Output,
): Promise<GenerateResult[]> {
  const before = echo ? prompt : ''
  if ((options.numReturnSequences ?? 1) > 1) {
    const results = await generateAll(model, prompt, options)
    for (const [i, result] of results.entries()) {
      await output.write(`${i > 0 ? '\n' : ''}[${i + 1}] ${before}${result.text}\n`)
    }
    return results
  }
  const stream = model.stream(prompt, options)
  await output.write(before)
  for await (const chunk of stream) await output.write(chunk.text)
  await output.write('\n')
  return [await stream.result]
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
