/** The summary of `moepp routing`: a column for each of two subjects beside each other. */

import { EXPERT_KINDS } from '../program/expert-kinds.js'
import { shares } from '../routing/balance.js'
import { shortNames } from '../routing/short-names.js'
import type { Cost, MeanInterval, RoutingReport, Subject, TokenCost } from '../routing/types.js'
import {
  formatBytes,
  formatCount,
  formatLarge,
  formatNumber,
  formatRatio,
  formatTable,
} from './format.js'
import { paint, type Terminal } from './terminal.js'
import { visible } from './visible.js'

/** Rarer tokens of the vocabulary say little. */
const LEAST_COUNT = 10
const SHOWN_ENTRIES = 5
/** Of a token: some stand for long runs of space. */
const MOST_CHARACTERS = 12
const SUBJECTS_ABREAST = 2

export async function showSummary(report: RoutingReport, terminal: Terminal): Promise<void> {
  const text = summary(report)
  const names = namesOf(report)
  if (terminal.stdoutHasColors) await terminal.writeRaw(paintHeadings(visible(text)))
  else await terminal.write(text)
  for (const { model, file, findings } of report.subjects)
    for (const finding of findings)
      terminal.warn(`${names.get(model)}, ${names.get(file)}: ${finding.text}`)
}

/** All other lines are indented. */
function paintHeadings(text: string): string {
  return text.replaceAll(/^\S.*$/gm, heading => paint('bold', heading))
}

export function summary(report: RoutingReport): string {
  const names = namesOf(report)
  const subjects = report.subjects.map(subject => ({
    ...subject,
    model: names.get(subject.model)!,
    file: names.get(subject.file)!,
  }))
  let text = ''
  for (let i = 0; i < subjects.length; i += SUBJECTS_ABREAST)
    text += `${block(subjects.slice(i, i + SUBJECTS_ABREAST))}\n`
  return text
}

/** Of models and of files. */
function namesOf({ subjects }: RoutingReport): ReadonlyMap<string, string> {
  const models = shortNames(subjects.map(({ model }) => model))
  return new Map([...models, ...shortNames(subjects.map(({ file }) => file))])
}

/** Models and files have short names here. */
function block(subjects: readonly Subject[]): string {
  const headings = subjects.map(heading).join('\n')
  const columns = subjects.map(lines)
  const labels = [...new Set(columns.flatMap(column => [...column.keys()]))]
  const rows = labels.map(label => [
    label.startsWith(CONTINUED) ? '' : label,
    ...columns.map(column => column.get(label) ?? (label.startsWith(CONTINUED) ? '' : '-')),
  ])
  const names = ['', ...subjects.map(({ model, file }) => `${model}: ${file}`)]
  const shown = subjects.length > 1 ? [names, ...rows] : rows
  return `${headings}\n\n${formatTable(shown, ['left', ...subjects.map(() => 'left' as const)])}\n`
}

function heading({ model, file, device, dtype, tokens, windowTokens }: Subject): string {
  const counts = `${formatNumber(tokens, 'token')} in windows of ${formatCount(windowTokens)}`
  return `${file} through ${model} on ${device}, ${dtype}: ${counts}`
}

/** Begins the label of a row that goes on with the one above. */
const CONTINUED = '\0'

/** Texts by their labels. */
function lines(subject: Subject): Map<string, string> {
  const { ffnExperts, layers, cost, vocabulary } = subject
  const picks = layers.reduce((sum, { topK }) => sum + topK, 0) / layers.length
  const common = vocabulary.filter(({ ffnExperts }) => ffnExperts.count >= LEAST_COUNT)
  const isOwnTwin = layers.every(({ kinds }) => kinds.every(kind => kind === 'ffn'))
  // No token is in both lists. None is dear where all cost the same.
  const isEven = common.at(0)?.ffnExperts.mean === common.at(-1)?.ffnExperts.mean
  const shown = isEven ? 0 : Math.min(SHOWN_ENTRIES, Math.floor(common.length / 2))
  return new Map([
    ['FFN experts per token', `${interval(ffnExperts)} of ${formatRatio(picks)}`],
    ...kindLines(subject),
    ...(cost ? costLines(cost, isOwnTwin) : []),
    ...entryLines('dearest tokens (count)', common.slice(0, shown)),
    ...entryLines('cheapest tokens (count)', common.slice(common.length - shown).reverse()),
  ])
}

function kindLines({ layers }: Subject): [string, string][] {
  const [first] = layers
  const all = shares({
    ...first!,
    kinds: layers.flatMap(({ kinds }) => kinds),
    picks: layers.flatMap(({ picks }) => picks),
  })
  return EXPERT_KINDS.filter(kind => layers.some(({ kinds }) => kinds.includes(kind))).map(kind => [
    `${kind === 'ffn' ? 'FFN' : kind} picks`,
    percent(all[kind]),
  ])
}

function costLines({ model, twin }: Cost, isOwnTwin: boolean): [string, string][] {
  const ratio = (of: (cost: TokenCost) => number | undefined) => {
    const [own, other] = [of(model), of(twin)]
    return own === undefined || other === undefined ? undefined : percent(own / other)
  }
  const time = (phase: 'prefill' | 'decode') => {
    const predicted = ratio(cost => cost.predicted?.[phase])
    const measured = ratio(cost => cost.measured?.[phase])
    const parts = [predicted && `${predicted} predicted`, measured && `${measured} measured`]
    return parts.filter(part => part !== undefined).join(', ')
  }
  const figures = [formatLarge(model.operations), formatBytes(Math.round(model.bytes))] as const
  const labels = ['operations per token', 'bytes per token'] as const
  if (isOwnTwin) return labels.map((label, i) => [label, figures[i]!])
  const rows: [string, string][] = [
    [labels[0], `${figures[0]}, ${ratio(cost => cost.operations)} of the twin's`],
    [labels[1], `${figures[1]}, ${ratio(cost => cost.bytes)} of the twin's`],
    ['prefill against the twin', time('prefill')],
    ['decode against the twin', time('decode')],
  ]
  return rows.filter(([, text]) => text !== '')
}

function entryLines(label: string, entries: Subject['vocabulary']): [string, string][] {
  return entries.map(({ text, ffnExperts }, i) => [
    i === 0 ? label : `${CONTINUED}${label} ${i}`,
    `${JSON.stringify(shorten(text))} ${interval(ffnExperts)} (${formatCount(ffnExperts.count)})`,
  ])
}

function shorten(text: string): string {
  return text.length > MOST_CHARACTERS ? `${text.slice(0, MOST_CHARACTERS - 1)}\u2026` : text
}

function interval({ mean, halfWidth }: MeanInterval): string {
  return halfWidth === null ? mean.toFixed(3) : `${mean.toFixed(3)} ± ${halfWidth.toFixed(3)}`
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`
}
