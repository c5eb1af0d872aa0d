/** `moepp eval`: scores of a model on data sets, as lm-evaluation-harness computes them. */

import { setMaxListeners } from 'node:events'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { Command, Option } from 'commander'
import { checkAll, integer } from '../base/option-checks.js'
import { Evaluation, type TaskReport } from '../evaluate/evaluation.js'
import { readTasks, TASK_NAMES, type Task, type TaskFile, taskFile } from '../evaluate/tasks.js'
import type { LoadOptions } from '../options/generate.js'
import { type CreateCommand, runWork, type Work } from './command.js'
import { checkUsage, UsageError } from './errors.js'
import { evalJson, evalTable } from './eval-report.js'
import { EvalResults, EvalRun } from './eval-run.js'
import { formatNumber } from './format.js'
import { ModelSource } from './generate-model.js'
import { addLoadOptions, loadOptions, number } from './generate-options.js'
import { addModelOption, requireModel } from './model-option.js'
import { addHubOptions } from './source.js'
import type { Terminal } from './terminal.js'

type EvalFlags = LoadOptions & {
  readonly model?: string
  readonly tasks?: readonly string[]
  readonly shots: number
  readonly shotsFrom?: readonly string[]
  readonly seed: number
  readonly limit?: number
  readonly stride?: number
  readonly addSpecialTokens?: boolean
  readonly out?: string
  readonly json?: boolean
}

/** The harness's seed of the choice of examples. */
const DEFAULT_SEED = 1234

const CHECKS = {
  shots: integer(0),
  seed: integer(0, 2 ** 32 - 1),
  limit: integer(1),
  stride: integer(1),
}

export const evalCommand: CreateCommand = (terminal, setExitCode) => {
  const command = new Command('eval')
    .description('Scores a model on data sets, with the formulas of lm-evaluation-harness.')
    .addOption(new Option('--task, --tasks <files...>', 'data sets: FILE, or NAME=FILE'))
    .addOption(number('--shots <n>', 'examples before each question').default(0))
    .option('--shots-from <files...>', 'data sets that the examples are chosen from')
    .addOption(number('--seed <n>', 'chooses the examples').default(DEFAULT_SEED))
    .addOption(number('--limit <n>', 'documents of each data set, from the first (default: all)'))
    .addOption(
      number('--stride <n>', 'tokens that each window of a text adds (default: all that it holds)'),
    )
    .addOption(new Option('--no-add-special-tokens', "leave out the tokenizer's begin token"))
    .option('-o, --out <file>', 'keeps the results there; the same command goes on from them')
    .option('--json', 'print JSON instead of a table')
    .addHelpText('after', EXPLANATION)
    .action((flags: EvalFlags) =>
      runWork(terminal, setExitCode, work => runEval(flags, terminal, work)),
    )
  return addHubOptions(addLoadOptions(addModelOption(command)))
}

const EXPLANATION = `
Data sets are files as their authors or the hub publish them. The fields of the first line show the
form. NAME=FILE says it: ${TASK_NAMES.join(', ')}.
A .txt file, or JSON Lines of {"text"}, is a whole text: its perplexity is computed.

Examples:
  $ moepp eval --model ./moepp-7b --tasks winogrande_dev.jsonl book.txt
  $ moepp eval --model ./moepp-7b --tasks arc_easy=test.jsonl --shots 5 --shots-from train.jsonl
  $ moepp eval --model ./moepp-7b --tasks lambada=test.jsonl --out results.jsonl --json
`

async function runEval(
  flags: EvalFlags,
  terminal: Terminal,
  { progress, interrupt }: Work,
): Promise<void> {
  const stop = new AbortController()
  const signal = AbortSignal.any([interrupt.signal, terminal.closed, stop.signal])
  // Each sequence in flight listens too; Node would take more than ten for a leak.
  setMaxListeners(0, signal)
  const name = requireModel(flags, 'moepp eval --model ./my-model --tasks dev.jsonl')
  const source = new ModelSource(name, flags, progress, signal)
  source.checkEarly({})
  const { tasks, options } = await plan(flags)
  const { directory } = await source.open()
  await using model = await source.load()
  const { stride = 1, addSpecialTokens = true } = flags
  checkUsage(() => integer(1, model.contextLength)(stride, 'stride'))
  const setup = JSON.stringify([setupOf(name, flags), model.config, await weightFiles(directory)])
  const all = { ...options, addSpecialTokens, setup, signal }
  const evaluation = await Evaluation.of(model, tasks, all)
  await using results = await EvalResults.open(flags.out, pathsOf(flags))
  const run = new EvalRun({ evaluation, results, progress, stop, terminal, interrupt })
  await run.finish(signal)
  const reports = await evaluation.report()
  progress.stop()
  const { device, contextLength } = model
  const about = { model: name, device, contextLength, options: { ...options, addSpecialTokens } }
  if (flags.json) await terminal.writeJson(evalJson(about, reports))
  else await terminal.write(`${evalTable(about, reports)}\n`)
  warnOfCuts(reports, terminal)
}

/** Reads all data, and checks all options that need no model. */
async function plan(flags: EvalFlags) {
  const { shots, seed, limit, stride } = flags
  const numbers = checkUsage(() => checkAll({ shots, seed, limit, stride }, CHECKS, undefined))
  const [files, from] = checkUsage(() => [filesOf(flags.tasks), filesOf(flags.shotsFrom)])
  if (files.length === 0) throw new UsageError('no data set is given: use --tasks FILE')
  if (from.length > 0 && shots === 0)
    throw new UsageError('--shots-from: expected together with --shots')
  const tasks = await readAll(files)
  const options = { ...numbers, shots, seed, examples: await readAll(from) }
  checkUsage(() => Evaluation.check(tasks, options))
  return { tasks, options }
}

async function readAll(files: readonly TaskFile[]): Promise<Task[]> {
  return (await Promise.all(files.map(readTasks))).flat()
}

function filesOf(names: readonly string[] = []): TaskFile[] {
  return names.map(taskFile)
}

function pathsOf({ tasks, shotsFrom }: EvalFlags): string[] {
  return [...filesOf(tasks), ...filesOf(shotsFrom)].map(({ path }) => path)
}

/** All that decides a result beside its tokens: no threads, say, which a later run may change. */
function setupOf(model: string, flags: EvalFlags): object {
  const { dtype, activationDtype, kvCacheDtype, revision } = loadOptions(flags)
  return { model, dtype, activationDtype, kvCacheDtype, revision }
}

/** Names, sizes and times: a model that was trained on has other ones. */
async function weightFiles(directory: string): Promise<[string, number, number][]> {
  const names = (await readdir(directory)).filter(name => /\.(safetensors|bin)$/.test(name)).sort()
  return Promise.all(
    names.map(async name => {
      const { size, mtimeMs } = await stat(join(directory, name))
      return [name, size, mtimeMs]
    }),
  )
}

function warnOfCuts(reports: readonly TaskReport[], terminal: Terminal): void {
  for (const { task, cutPrompts } of reports) {
    if (cutPrompts === 0) continue
    const prompts = formatNumber(cutPrompts, 'prompt')
    terminal.warn(`${task}: ${prompts} without the first tokens, which the context has no room for`)
  }
}
