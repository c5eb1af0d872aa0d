/** `moepp bench`: measures how fast a model runs here. */

import { Command, InvalidArgumentError, Option } from 'commander'
import { type BenchResult, bench } from '../bench/bench.js'
import { DEFAULT_WORKLOADS, parseWorkloads } from '../bench/workload.js'
import { type LoadOptions, resolveLoadOptions } from '../options.js'
import { benchJson, benchMarkdown, benchTable } from './bench-report.js'
import { type CreateCommand, runWork, type Work } from './command.js'
import { checkUsage } from './errors.js'
import { formatCount } from './format.js'
import { addLoadOptions, loadOptions } from './generate-options.js'
import type { Output } from './output.js'
import { addHubOptions, MODEL_ARGUMENT, showProgress } from './source.js'

type BenchFlags = LoadOptions & {
  readonly model: string
  readonly tests?: string
  readonly repetitions: number
  readonly output: 'table' | 'markdown' | 'json'
}

export const benchCommand: CreateCommand = (output, setExitCode) => {
  const command = new Command('bench')
    .description('Measures prefill and decode, and their share of what this machine can do.')
    .requiredOption('--model <model>', MODEL_ARGUMENT)
    .option('--tests <names>', 'what to measure, by commas (default: see below)')
    .addOption(
      new Option('--repetitions <n>', 'measurements of each test').argParser(parseCount).default(5),
    )
    .addOption(
      new Option('-o, --output <format>', 'form of the result')
        .choices(['table', 'markdown', 'json'])
        .default('table'),
    )
    .addHelpText('after', EXPLANATION)
    .action((flags: BenchFlags) =>
      runWork(output, setExitCode, work => runBench(flags, output, work)),
    )
  addLoadOptions(command, ['device', 'dtype', 'activationDtype', 'kvCacheDtype', 'isa', 'threads'])
  return addHubOptions(command)
}

const EXPLANATION = `
Tests: pp512 computes a prompt of 512 tokens; tg128@32 computes 128 tokens one by one after 32.
x4 does it for four sequences at once. Tokens are fixed and nothing is sampled. Default:
${DEFAULT_WORKLOADS}

Examples:
  $ moepp bench --model models/books-7m
  $ moepp bench --model Chat-UniVi/MoE-Plus-Plus-7B --tests pp512,tg128@32 -o markdown
`

async function runBench(
  flags: BenchFlags,
  output: Output,
  { progress, interrupt }: Work,
): Promise<void> {
  const signal = AbortSignal.any([interrupt.signal, output.closed])
  const load = { ...loadOptions(flags), onProgress: showProgress(progress) }
  checkUsage(() => resolveLoadOptions(load))
  const workloads = checkUsage(() => parseWorkloads(flags.tests ?? DEFAULT_WORKLOADS))
  const report = await bench({
    model: flags.model,
    workloads,
    repetitions: flags.repetitions,
    load,
    signal,
    onResult: result => {
      progress.stop()
      process.stderr.write(`moepp: ${progressLine(result)}\n`)
    },
  })
  if (flags.output === 'json') await output.writeJson(benchJson(flags.model, report))
  else if (flags.output === 'markdown')
    await output.write(`${benchMarkdown(flags.model, report)}\n`)
  else await output.write(`${benchTable(flags.model, report)}\n`)
}

function progressLine({ workload, mean }: BenchResult): string {
  return `${workload.name}: ${formatCount(Number(mean.toPrecision(3)))} tokens/s`
}

function parseCount(text: string): number {
  const value = Number(text)
  if (/^\d+$/.test(text) && value >= 1 && Number.isSafeInteger(value)) return value
  throw new InvalidArgumentError('Expected an integer from 1.')
}
