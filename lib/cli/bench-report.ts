/** Formats the results of `moepp bench`. */

import { basename } from 'node:path'
import { packageVersion } from '../addon/addon-file.js'
import type { BenchReport, BenchResult } from '../benchmark/benchmark.js'
import {
  formatBytes,
  formatCount,
  formatRate,
  formatRatio,
  formatTable,
  rateDecimals,
} from './format.js'

const HEADINGS = ['test', 'tokens/s', '±', 'FFN experts/token', 'share', 'of the ceiling']

export function benchTable(model: string, report: BenchReport): string {
  const rows = [HEADINGS, ...report.results.map(cells)]
  const table = formatTable(rows, ['left', 'right', 'right', 'right', 'right', 'left'])
  return [about(model, report).join('\n'), table, ...warnings(report)].join('\n\n')
}

export function benchMarkdown(model: string, report: BenchReport): string {
  const line = (columns: readonly string[]) => `| ${columns.join(' | ')} |`
  const rows = [line(HEADINGS), line(HEADINGS.map((_, i) => (i === 0 ? '---' : '---:')))]
  for (const result of report.results) rows.push(line(cells(result)))
  return [about(model, report).join('  \n'), rows.join('\n'), ...warnings(report)].join('\n\n')
}

export function benchJson(model: string, report: BenchReport): object {
  const { config, results, ...rest } = report
  return {
    version: packageVersion(),
    date: new Date().toISOString(),
    model: basename(model),
    layers: config.layers,
    hiddenSize: config.hiddenSize,
    intermediateSize: config.intermediateSize,
    ffnExperts: config.ffnExperts,
    vocabSize: config.vocabSize,
    ...rest,
    results: results.map(({ workload, ...result }) => ({ ...workload, ...result })),
  }
}

function about(model: string, { device, config, memory, ...report }: BenchReport): string[] {
  const { layers, hiddenSize, intermediateSize, ffnExperts } = config
  const { peakBytes, weightBytes, kvCacheBytes, ratio } = memory
  const seconds = (n: number) => `${n.toFixed(1)} s`
  const debug = device.debug.length > 0 ? [`MOEPP_CUDA_DEBUG: ${device.debug.join(', ')}`] : []
  return [
    `${device.model}, ${device.name}, ${device.isa}, ${device.threads} threads; moepp ${packageVersion()}`,
    `${basename(model)}: ${layers} layers, hidden ${hiddenSize}, ${ffnExperts} FFN experts of ${intermediateSize}; ${report.dtype}, ${report.activationDtype === 'auto' ? '' : `activations ${report.activationDtype}, `}KV cache ${report.kvCacheDtype}`,
    `loaded in ${seconds(report.loadSeconds)}, first token after ${seconds(report.firstTokenSeconds)}; ${report.repetitions} repetitions`,
    `peak memory ${formatBytes(peakBytes)}, ${formatRatio(ratio)} times weights (${formatBytes(weightBytes)}) and KV cache (${formatBytes(kvCacheBytes)})`,
    ...debug,
  ]
}

/** Of tests that waited for the disk. */
function warnings({ results }: BenchReport): string[] {
  const faults = results
    .map(({ workload, majorPageFaults }) => ({
      name: workload.name,
      pages: Math.max(...majorPageFaults),
    }))
    .filter(({ pages }) => pages > 0)
  if (faults.length === 0) return []
  const tests = faults
    .map(({ name, pages }) => `${name} (up to ${formatCount(pages)} pages)`)
    .join(', ')
  return [`Warning: the process read pages from disk during ${tests}: the disk was measured too.`]
}

function cells({ workload, mean, sd, ffnExpertsPerToken, ceiling }: BenchResult): string[] {
  return [
    workload.name,
    formatRate(mean),
    formatRate(sd, rateDecimals(mean)),
    formatRatio(ffnExpertsPerToken),
    ceiling ? `${(100 * ceiling.share).toFixed(1)} %` : '-',
    ceiling ? formatCeiling(ceiling) : '-',
  ]
}

function formatCeiling({ name, rate }: { name: string; rate: number }): string {
  if (name === 'read') return `${formatRate(rate / 1e9)} GB/s read`
  return `${formatRate(rate / 1e9)} GOP/s ${name}`
}
