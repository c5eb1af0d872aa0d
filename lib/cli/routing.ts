/** `moepp routing`: where the tokens of a text go in a model. */

import { Command, Option } from 'commander'
import { packageVersion } from '../addon/addon-file.js'
import { checkAll, integer } from '../base/option-checks.js'
import { type LoadOptions, resolveLoadOptions } from '../options/generate.js'
import { withTokenFile } from '../routing/export/token-file.js'
import type { RoutingReport } from '../routing/types.js'
import { type CreateCommand, runWork, type Work } from './command.js'
import { checkUsage } from './errors.js'
import { addLoadOptions, collect, loadOptions, number } from './generate-options.js'
import { requireModel } from './model-option.js'
import { writeReports } from './routing-files.js'
import { findModel, localOptions, picksOf } from './routing-model.js'
import { checkPaths, type RoutingPaths } from './routing-plan.js'
import { showSummary } from './routing-report.js'
import { surveyAll } from './routing-run.js'
import { addHubOptions, MODEL_ARGUMENT } from './source.js'
import type { Terminal } from './terminal.js'

interface RoutingFlags extends LoadOptions, RoutingPaths {
  readonly model?: readonly string[]
  readonly window?: number
  readonly addSpecialTokens: boolean
  readonly pageTokens: number
  readonly limit?: number
  readonly measure: boolean
  readonly json?: boolean
}

const CHECKS = { window: integer(2), pageTokens: integer(0), limit: integer(1) }

export const routingCommand: CreateCommand = (terminal, setExitCode) => {
  const command = new Command('routing')
    .description('Shows where the tokens of a text go: experts, layers, words, cost.')
    .argument('<files...>', 'UTF-8 texts; - is standard input')
    .addOption(
      new Option('--model <model>', `${MODEL_ARGUMENT}; may be repeated`)
        .argParser(collect)
        .env('MOEPP_MODEL'),
    )
    .option('-o, --out <files...>', 'reports: .html is a page, .json the numbers')
    .option('--tables <directory>', 'the numbers as CSV files in this folder')
    .option('--tokens <file>', 'a row for each token and layer: .parquet or .csv')
    .addOption(
      number(
        '--window <n>',
        'tokens that are computed together as a text (default: 2048, or what the model was made for)',
      ),
    )
    .addOption(new Option('--no-add-special-tokens', "leave out the tokenizer's begin token"))
    .addOption(number('--limit <n>', 'tokens of each text, from the first (default: all)'))
    .addOption(
      number('--page-tokens <n>', 'tokens that the page shows, of all texts').default(100_000),
    )
    .addOption(
      new Option('--no-measure', 'measure no times: the model is not loaded beside its twin'),
    )
    .option('--json', 'print JSON instead of a summary')
    .addHelpText('after', EXPLANATION)
    .action((files: string[], flags: RoutingFlags) =>
      runWork(terminal, setExitCode, work => runRouting(files, flags, terminal, work)),
    )
  return addHubOptions(addLoadOptions(command))
}

const EXPLANATION = `
Each text goes through each model, window by window. The report shows all of them beside each other.
A .parquet file needs a package that moepp alone does not: npm install hyparquet-writer@0.17
docs/routing.md says what each number means.

Examples:
  $ moepp routing book.txt --model npm:moepp-books-7m --out report.html
  $ moepp routing code.txt prose.txt --model ./moepp-7b --out report.html report.json
  $ moepp routing book.txt --model ./before --model ./after --tables tables --no-measure
  $ moepp routing - --model ./moepp-7b --tokens tokens.parquet < book.txt
`

async function runRouting(
  files: readonly string[],
  flags: RoutingFlags,
  terminal: Terminal,
  { progress, interrupt }: Work,
): Promise<void> {
  const signal = AbortSignal.any([interrupt.signal, terminal.closed])
  const names = modelNames(flags)
  const { window, pageTokens, limit } = flags
  checkUsage(() => checkAll({ window, pageTokens, limit }, CHECKS, undefined))
  checkUsage(() => resolveLoadOptions(loadOptions(flags)))
  const inputs = await checkPaths(files, names, flags, () => terminal.stdin)
  const models = []
  for (const name of names) models.push(await findModel(name, flags, progress, signal))
  const context = Math.min(...models.map(({ contextLength }) => contextLength))
  if (window !== undefined) checkUsage(() => integer(2, context)(window, 'window'))

  const { addSpecialTokens, measure, tokens } = flags
  const isShown = flags.out?.some(path => path.endsWith('.html')) ?? false
  const setup = {
    ...{ models, inputs, load: localOptions(flags), window, addSpecialTokens, limit, measure },
    pageTokens: isShown ? pageTokens : 0,
  }
  const tools = { progress, signal, warn: (text: string) => terminal.warn(text) }
  const surveyed = tokens
    ? await withTokenFile(tokens, picksOf(models), addTokens =>
        surveyAll(setup, { ...tools, addTokens }),
      )
    : await surveyAll(setup, tools)
  const subjects = surveyed.map(({ subject }) => subject)
  const report: RoutingReport = { version: 1, moepp: packageVersion(), subjects }
  const samples = surveyed.map(({ sample }) => sample)
  const written = await writeReports(report, samples, flags)
  if (flags.json) await terminal.writeJson(report)
  else await showSummary(report, terminal)
  for (const path of written) terminal.note(`written: ${path}`)
}

/** An empty MOEPP_MODEL counts as none. */
function modelNames({ model = [] }: RoutingFlags): readonly string[] {
  const names = model.filter(Boolean)
  requireModel({ model: names[0] ?? '' }, 'moepp routing book.txt --model ./my-model')
  return names
}
