/** The numbers of a report as flat tables, for spreadsheets and notebooks. */
import { EXPERT_KINDS } from '../../program/expert-kinds.js'
import {
  balance,
  ffnExpertsPerToken,
  loads,
  routerEntropy,
  scoredTokens,
  shares,
} from '../balance.js'
import type { LayerStatistics, MeanInterval, Moments, RoutingReport, Subject } from '../types.js'
import { type Cell, csvLine } from './csv.js'

interface Table {
  readonly name: string
  /** After the model and the file. */
  readonly columns: readonly string[]
  readonly rows: (subject: Subject) => readonly (readonly Cell[])[]
}

const INTERVAL = ['count', 'ffn_experts', 'half_width']
const MOMENTS = ['mean', 'variance', 'least', 'most']

/** `picks` is the largest K of the report. */
function tables(picks: number): Table[] {
  return [
    {
      name: 'layers',
      columns: [
        ...['layer', 'tokens', 'top_k', 'ffn_experts'],
        ...EXPERT_KINDS.map(kind => `${kind}_share`),
        ...Array.from({ length: picks + 1 }, (_, n) => `tokens_with_${n}_ffn`),
        ...['balance_loss', 'ffn_variation', 'ffn_violation', 'load_entropy'],
        'router_entropy_bits',
        ...MOMENTS.map(name => `score_${name}`),
        ...MOMENTS.map(name => `own_score_${name}`),
      ],
      rows: ({ layers }) => layers.map(layer => layerRow(layer, picks)),
    },
    {
      name: 'experts',
      columns: ['layer', 'expert', 'kind', 'picks', 'load', 'weight', 'probability'],
      rows: ({ layers }) => layers.flatMap(expertRows),
    },
    {
      name: 'vocabulary',
      columns: ['token', 'text', ...INTERVAL],
      rows: ({ vocabulary }) =>
        vocabulary.map(({ token, text, ffnExperts }) => [token, text, ...interval(ffnExperts)]),
    },
    {
      name: 'places',
      columns: ['place', ...INTERVAL],
      rows: ({ places }) => places.map(({ place, ffnExperts }) => [place, ...interval(ffnExperts)]),
    },
    {
      name: 'agreement',
      columns: [
        ...['layer', 'next_layer', 'same', 'expected', 'information_bits', 'ffn_correlation'],
      ],
      rows: ({ agreement }) =>
        agreement.map(a => [
          ...[a.layer, a.nextLayer, a.same, a.expected, a.information, a.ffnCorrelation],
        ]),
    },
    {
      name: 'cost',
      columns: [
        ...['variant', 'ffn_experts', 'operations', 'bytes'],
        ...['predicted_prefill_seconds', 'predicted_decode_seconds'],
        ...['measured_prefill_seconds', 'measured_decode_seconds'],
        ...['ceiling_bytes_per_second', 'ceiling_operations_per_second'],
      ],
      rows: costRows,
    },
  ]
}

/** Of all tables of a report. */
export const TABLE_NAMES: readonly string[] = tables(0).map(({ name }) => name)

/** Each table's name, and its lines with their ends. */
export function* csvTables({
  subjects,
}: RoutingReport): Generator<{ readonly name: string; readonly lines: Iterable<string> }> {
  const layers = subjects.flatMap(subject => subject.layers)
  for (const table of tables(Math.max(0, ...layers.map(({ topK }) => topK))))
    yield { name: table.name, lines: linesOf(table, subjects) }
}

function* linesOf({ columns, rows }: Table, subjects: readonly Subject[]): Generator<string> {
  yield csvLine(['model', 'file', ...columns])
  for (const subject of subjects)
    for (const row of rows(subject)) yield csvLine([subject.model, subject.file, ...row])
}

function layerRow(statistics: LayerStatistics, picks: number): Cell[] {
  const { layer, tokens, topK, ffnExperts, router } = statistics
  const { loss, variation, violation, entropy } = balance(statistics)
  const ofKind = shares(statistics)
  return [
    ...[layer, tokens, topK, ffnExpertsPerToken(statistics)],
    ...EXPERT_KINDS.map(kind => ofKind[kind]),
    ...Array.from({ length: picks + 1 }, (_, n) => ffnExperts[n] ?? null),
    ...[loss, variation, violation, entropy],
    routerEntropy(statistics) ?? null,
    ...moments(router?.scores),
    ...moments(router?.ownScores),
  ]
}

function expertRows(statistics: LayerStatistics): Cell[][] {
  const { layer, kinds, picks, weights, router } = statistics
  const ofExpert = loads(statistics)
  return kinds.map((kind, expert) => [
    ...[layer, expert, kind, picks[expert]!, ofExpert[expert]!, weights[expert]!],
    router ? router.probabilities[expert]! / scoredTokens(router, kinds.length) : null,
  ])
}

function costRows({ cost }: Subject): Cell[][] {
  if (!cost) return []
  const ceilings = [cost.ceilings?.bytesPerSecond, cost.ceilings?.operationsPerSecond]
  return (['model', 'twin'] as const).map(variant => {
    const { ffnExperts, operations, bytes, predicted, measured } = cost[variant]
    const times = [predicted?.prefill, predicted?.decode, measured?.prefill, measured?.decode]
    return [variant, ffnExperts, operations, bytes, ...[...times, ...ceilings].map(x => x ?? null)]
  })
}

function interval({ count, mean, halfWidth }: MeanInterval): Cell[] {
  return [count, mean, halfWidth]
}

function moments(of: Moments | undefined): Cell[] {
  return of ? [of.mean, of.variance, of.least, of.most] : MOMENTS.map(() => null)
}
