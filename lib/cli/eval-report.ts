/** Formats the results of `moepp eval`. */

import { basename } from 'node:path'
import { packageVersion } from '../addon/addon-file.js'
import type { ModelDevice } from '../addon/device.js'
import type { TaskReport } from '../evaluate/evaluation.js'
import { HARNESS } from '../evaluate/harness.js'
import { formatCount, formatTable } from './format.js'

export interface EvalAbout {
  readonly model: string
  readonly device: ModelDevice
  readonly contextLength: number
  readonly options: {
    readonly shots: number
    readonly seed: number
    readonly limit?: number
    readonly stride?: number
    readonly addSpecialTokens: boolean
  }
}

const HEADINGS = ['task', 'file', 'documents', 'metric', 'value', '± stderr']

export function evalTable(about: EvalAbout, reports: readonly TaskReport[]): string {
  const { model, device, contextLength, options } = about
  const { version, commit } = HARNESS
  const lines = [
    `${basename(model)} on ${device.model}, ${device.name}, ${device.isa}; moepp ${packageVersion()}`,
    `formulas of ${HARNESS.name} ${version}, commit ${commit.slice(0, 9)}`,
    `${options.shots} shots, context of ${formatCount(contextLength)} tokens`,
  ]
  const rows = [HEADINGS, ...reports.flatMap(rowsOf)]
  const table = formatTable(rows, ['left', 'left', 'right', 'left', 'right', 'right'])
  return [lines.join('\n'), table].join('\n\n')
}

/** A task's name stands in the first of its rows. */
function rowsOf({ task, file, documents, metrics }: TaskReport): string[][] {
  return metrics.map(({ name, value, stderr }, i) => [
    ...(i === 0 ? [task, file, formatCount(documents)] : ['', '', '']),
    name,
    value.toFixed(4),
    stderr === null ? '-' : stderr.toFixed(4),
  ])
}

export function evalJson(about: EvalAbout, reports: readonly TaskReport[]): object {
  const { model, device, contextLength, options } = about
  const { shots, seed, limit = null, stride = null, addSpecialTokens } = options
  return {
    version: packageVersion(),
    date: new Date().toISOString(),
    harness: HARNESS,
    model: basename(model),
    device,
    options: { shots, seed, limit, stride, contextLength, addSpecialTokens },
    results: reports.map(({ metrics, ...report }) => ({
      ...report,
      metrics: Object.fromEntries(
        metrics.map(({ name, value, stderr }) => [name, { value, stderr }]),
      ),
    })),
  }
}
