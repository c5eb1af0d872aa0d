/** `moepp placement`: which ranks hold an expert, from the numbers of `moepp routing`. */
import { Command, Option } from 'commander'
import { readConfigJson } from '../base/fields.js'
import { isObject } from '../base/json.js'
import { checkAll, integer } from '../base/option-checks.js'
import { StagedFile } from '../base/staged-file.js'
import { MoeppError } from '../errors.js'
import { type PlacedLayer, placeExperts } from '../routing/placement.js'
import type { LayerStatistics } from '../routing/types.js'
import type { CreateCommand } from './command.js'
import { checkUsage } from './errors.js'
import { formatTable } from './format.js'
import { number } from './generate-options.js'

interface PlacementFlags {
  readonly ranks: number
  readonly copies: number
  readonly out: string
}

const CHECKS = { ranks: integer(1, 4096), copies: integer(0) }

export const placementCommand: CreateCommand = terminal =>
  new Command('placement')
    .description('Spreads the FFN experts over ranks, by the picks that texts gave them.')
    .argument('<report>', 'a .json file of moepp routing')
    .addOption(number('--ranks <n>', 'number of processes').makeOptionMandatory())
    .addOption(
      number('--copies <n>', 'further experts of each layer on a rank, if that helps').default(0),
    )
    .addOption(new Option('-o, --out <file>', 'the placement').default('placement.json'))
    .addHelpText('after', EXPLANATION)
    .action(async (report: string, { ranks, copies, out }: PlacementFlags) => {
      checkUsage(() => checkAll({ ranks, copies }, CHECKS, undefined))
      const placed = picksOf(await readConfigJson(report), report).map(layer =>
        placeExperts(layer, ranks, copies),
      )
      const layers = placed.map(({ layer, experts }) => ({ layer, experts }))
      const text = `${JSON.stringify({ ranks, layers })}\n`
      await StagedFile.with(out, file => file.append(Buffer.from(text)))
      await terminal.write(`${summary(placed)}\n`)
      terminal.note(`written: ${out}`)
    })

const EXPLANATION = `
The busiest rank's share of the picks by the mean is the imbalance: 1 is even. A copy takes the
memory of an expert, and its picks are shared out. docs/parallel.md says more.

Examples:
  $ moepp routing book.txt --model npm:moepp-books-7m --no-measure --out report.json
  $ moepp placement report.json --ranks 4 --copies 1
  $ mpirun -n 4 moepp serve --model npm:moepp-books-7m --expert-parallel --placement placement.json
`

/** Of each layer, the picks of all texts together. */
function picksOf(json: unknown, where: string): LayerStatistics[] {
  const bad = (message: string) => new MoeppError('ERR_BAD_FILE', `${where}: ${message}`)
  const subjects = isObject(json) ? json.subjects : undefined
  if (!Array.isArray(subjects) || subjects.length === 0)
    throw bad('expected a report of moepp routing, with subjects')
  const [first, ...others] = subjects.map((subject: unknown, i) => {
    const layers = isObject(subject) ? subject.layers : undefined
    if (!Array.isArray(layers) || layers.length === 0 || !layers.every(isLayer))
      throw bad(`subjects[${i}].layers: expected layers with picks of experts`)
    return layers
  })
  return first!.map((layer, i) => {
    const same = [layer, ...others.map(layers => layers[i])]
    if (
      !same.every(each => each?.layer === layer.layer && each.picks.length === layer.picks.length)
    )
      throw bad('its subjects are of models with different experts, expected one model')
    const sum = (_: number, e: number) => same.reduce((all, each) => all + each!.picks[e]!, 0)
    return { ...layer, picks: layer.picks.map(sum) }
  })
}

function isLayer(value: unknown): value is LayerStatistics {
  if (!isObject(value)) return false
  const { layer, kinds, picks } = value
  return (
    Number.isSafeInteger(layer) &&
    Array.isArray(kinds) &&
    Array.isArray(picks) &&
    kinds.length === picks.length &&
    picks.every(count => Number.isSafeInteger(count) && count >= 0)
  )
}

function summary(placed: readonly PlacedLayer[]): string {
  const rows = placed.map(({ layer, imbalance }) => [
    `${layer}`,
    imbalance.neighbours.toFixed(2),
    imbalance.placed.toFixed(2),
  ])
  const heading = ['layer', 'imbalance of neighbours', 'of this placement']
  return formatTable([heading, ...rows], ['right', 'right', 'right'])
}
