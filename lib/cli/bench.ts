/** `moepp bench`: measures how fast a model runs here. */

import { Command, InvalidArgumentError, Option } from 'commander'
import { type BenchResult, bench } from '../benchmark/benchmark.js'
import { DEFAULT_WORKLOADS, parseWorkloads } from '../benchmark/workload.js'
import { type LoadOptions, resolveLoadOptions } from '../options/generate.js'
import { benchJson, benchMarkdown, benchTable } from './bench-report.js'
import { type CreateCommand, runWork, type Work } from './command.js'
import { checkUsage } from './errors.js'
import { formatRate } from './format.js'
import { addGroupOptions, addLoadOptions, loadOptions } from './generate-options.js'
import { addModelOption, requireModel } from './model-option.js'
import { addHubOptions, showProgress } from './source.js'
import type { Terminal } from './terminal.js'

type BenchFlags = LoadOptions & {
  readonly model?: string
  readonly tests?: string
  readonly repetitions: number
  readonly output: 'table' | 'markdown' | 'json'
}

export const benchCommand: CreateCommand = (terminal, setExitCode) => {
  const command = new Command('bench')
    .description('Measures the speed of a model, and compares it with the limits of this machine.')
    .option('--tests <names>', 'the tests, separated by commas (default: see below)')
    .addOption(
      new Option('--repetitions <n>', 'number of measurements of each test')
        .argParser(parseCount)
        .default(5),
    )
    .addOption(
      new Option('-o, --output <format>', 'format of the result')
        .choices(['table', 'markdown', 'json'])
        .default('table'),
    )
    .addHelpText('after', EXPLANATION)
    .action((flags: BenchFlags) =>
      runWork(terminal, setExitCode, work => runBench(flags, terminal, work)),
    )
  addModelOption(command)
  const types = ['dtype', 'activationDtype', 'kvCacheDtype'] as const
  addLoadOptions(command, ['device', ...types, 'isa', 'threads', 'memoryCheck'])
  return addHubOptions(addGroupOptions(command))
}

const EXPLANATION = `
Tests:
  pp512 computes a prompt of 512 tokens. tg128@32 generates 128 tokens, one by one, after 32.
  x4 does so for four sequences at once. The tokens are fixed; nothing is sampled.
  Default: ${DEFAULT_WORKLOADS.replaceAll(',', ', ')}
The share compares a test with a short measurement of the machine before and after it. A test
can exceed 100 %: its data may fit in the cache, or the machine may have been slower just then.

Examples:
  $ moepp bench --model npm:moepp-books-7m
  $ moepp bench --model hf:Chat-UniVi/MoE-Plus-Plus-7B --tests pp512,tg128@32 -o markdown
`

async function runBench(
  flags: BenchFlags,
  terminal: Terminal,
  { progress, interrupt }: Work,
): Promise<void> {
  const signal = AbortSignal.any([interrupt.signal, terminal.closed])
  const model = requireModel(flags, 'moepp bench --model ./my-model')
  const load = { ...loadOptions(flags), onProgress: showProgress(progress) }
  checkUsage(() => resolveLoadOptions(load))
  const workloads = checkUsage(() => parseWorkloads(flags.tests ?? DEFAULT_WORKLOADS))
  const report = await bench({
    model,
    workloads,
    repetitions: flags.repetitions,
    load,
    signal,
    onResult: result => {
      progress.stop()
      terminal.note(progressLine(result))
    },
  })
  if (!report) return
  if (flags.output === 'json') await terminal.writeJson(benchJson(model, report))
  else if (flags.output === 'markdown') await terminal.write(`${benchMarkdown(model, report)}\n`)
  else await terminal.write(`${benchTable(model, report)}\n`)
}

function progressLine({ workload, mean }: BenchResult): string {
  return `${workload.name}: ${formatRate(mean)} tokens/s`
}

function parseCount(text: string): number {
  const value = Number(text)
  if (/^\d+$/.test(text) && value >= 1 && Number.isSafeInteger(value)) return value
  throw new InvalidArgumentError('Expected an integer from 1.')
}
