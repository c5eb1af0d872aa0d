/** The head of the report: findings, what was routed, and numbers of all subjects. */
import { element } from '../../page/dom.js'
import { entropy, routerEntropy, shares } from '../balance.js'
import type { LayerStatistics, RoutingReport, Subject } from '../types.js'
import type { Named, Table } from './charts/chart.js'
import { facts } from './facts.js'
import { count, decimal, interval, large, percent, seconds, visible } from './format.js'
import { tableElement } from './table.js'

export function overview({ moepp }: RoutingReport, subjects: readonly Named[]): HTMLElement[] {
  const table = tableElement(numbers(subjects), 'Numbers of the report')
  const summaries = subjects.map(summary)
  return [
    findings(subjects),
    ...differences(subjects),
    ...(subjects.length === 1
      ? [element('div', { class: 'overview' }, ...summaries, table)]
      : [table, element('div', { class: 'summaries' }, ...summaries)]),
    element('p', { class: 'hint' }, `Written by moepp ${moepp}.`),
  ]
}

function findings(subjects: readonly Named[]): HTMLElement {
  const found = subjects.flatMap(({ name, subject }) =>
    subject.findings.map(({ text }) => (subjects.length > 1 ? `${name}: ${text}` : text)),
  )
  if (found.length === 0) return element('p', { class: 'note' }, 'No warnings: no expert is dead.')
  return element(
    'div',
    { class: 'findings' },
    element('h3', {}, found.length === 1 ? '1 warning' : `${found.length} warnings`),
    element('ul', {}, ...found.map(text => element('li', {}, visible(text)))),
  )
}

function summary({ name, subject }: Named, _: number, { length }: readonly Named[]): HTMLElement {
  const sentences = facts(subject)
  return element(
    'div',
    { class: 'note' },
    ...(length > 1 ? [element('h3', {}, name)] : []),
    element('ul', {}, ...sentences.map(text => element('li', {}, text))),
  )
}

/** A sentence for each subject after the first one. */
function differences([first, ...others]: readonly Named[]): HTMLElement[] {
  if (first === undefined) return []
  return others.map(({ name, subject: { ffnExperts } }) => {
    const { mean, halfWidth } = first.subject.ffnExperts
    const difference = ffnExperts.mean - mean
    const isKnown = ffnExperts.halfWidth !== null && halfWidth !== null
    const half = isKnown ? Math.hypot(ffnExperts.halfWidth, halfWidth) : Infinity
    const more = difference < 0 ? 'fewer' : 'more'
    const interval = isKnown ? ` ± ${decimal(half, 3)}` : ''
    const sure = Math.abs(difference) > half ? '' : ', which may be chance'
    return element(
      'p',
      { class: 'note' },
      `${name} takes ${decimal(Math.abs(difference), 3)}${interval} FFN experts ` +
        `${more} per token and layer than ${first.name}${sure}.`,
    )
  })
}

interface Row {
  readonly label: string
  readonly value: (subject: Subject) => number | null | undefined
  readonly format: (value: number | null | undefined) => string
  /** Its text instead, where the number alone is too little. */
  readonly text?: (subject: Subject) => string
}

const meanOver = (
  layers: readonly LayerStatistics[],
  of: (l: LayerStatistics) => number | undefined,
) => {
  const values = layers.flatMap(layer => of(layer) ?? [])
  return values.length === 0
    ? undefined
    : values.reduce((sum, value) => sum + value, 0) / values.length
}

const share = (value: number | null | undefined) =>
  value === null || value === undefined ? '–' : percent(value)

const ROWS: readonly Row[] = [
  { label: 'Tokens', value: ({ tokens }) => tokens, format: value => count(value ?? 0) },
  {
    label: 'FFN experts per token and layer',
    value: ({ ffnExperts }) => ffnExperts.mean,
    format: value => decimal(value, 3),
    text: ({ ffnExperts }) => interval(ffnExperts),
  },
  {
    label: 'Picks that are FFN experts',
    value: ({ layers }) => meanOver(layers, layer => shares(layer).ffn),
    format: share,
  },
  {
    label: 'Entropy of loads, bits',
    value: ({ layers }) => meanOver(layers, ({ picks }) => entropy(picks)),
    format: value => decimal(value),
  },
  {
    label: 'Entropy of the router, bits',
    value: ({ layers }) => meanOver(layers, routerEntropy),
    format: value => decimal(value),
  },
  { label: 'Operations per token', value: s => s.cost?.model.operations, format: v => large(v) },
  {
    label: 'Operations of the vanilla twin',
    value: s => s.cost?.twin.operations,
    format: v => large(v),
  },
  { label: 'Bytes per token', value: s => s.cost?.model.bytes, format: v => large(v, 'B') },
  {
    label: 'Measured decode, per token',
    value: s => s.cost?.model.measured?.decode,
    format: seconds,
  },
]

function numbers(subjects: readonly Named[]): Table {
  const all = subjects.map(({ subject }) => subject)
  const texts: readonly (readonly [string, (subject: Subject) => string])[] = [
    ['Model', ({ model }) => model],
    ['File', ({ file }) => file],
    ['Device', ({ device, dtype }) => `${device}, ${dtype}`],
    ['Window', ({ windowTokens }) => `${count(windowTokens)} tokens`],
  ]
  const isPair = all.length === 2
  const known = ROWS.filter(({ value }) => all.some(subject => typeof value(subject) === 'number'))
  return {
    columns: [
      'Property',
      ...subjects.map(({ name }) => name),
      ...(isPair ? ['Second − first'] : []),
    ],
    rows: [
      ...texts.map(([label, text]) => [
        label,
        ...all.map(subject => visible(text(subject))),
        ...(isPair ? [''] : []),
      ]),
      ...known.map(({ label, value, format, text }) => [
        label,
        ...all.map(subject => text?.(subject) ?? format(value(subject))),
        ...(isPair ? [difference(all.map(value), format)] : []),
      ]),
    ],
  }
}

function difference(
  [first, second]: readonly (number | null | undefined)[],
  format: Row['format'],
): string {
  if (typeof first !== 'number' || typeof second !== 'number') return '–'
  const sign = second > first ? '+' : second < first ? '−' : ''
  // A share's difference is no share of anything.
  return sign + format(Math.abs(second - first)).replace(' %', ' points')
}
