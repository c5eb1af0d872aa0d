/** Writes the files of a routing report. Each appears whole, in the place of an older one. */

import { mkdir } from 'node:fs/promises'
import { StagedFile } from '../base/staged-file.js'
import { attempt } from '../base/staging.js'
import { csvTables } from '../routing/export/tables.js'
import type { RoutingReport, Sample } from '../routing/types.js'
import { type RoutingPaths, tableFile } from './routing-plan.js'

/** Resolves to all paths, that of the tokens' file included. */
export async function writeReports(
  report: RoutingReport,
  samples: readonly Sample[],
  { out = [], tables, tokens }: RoutingPaths,
): Promise<string[]> {
  for (const path of out) {
    const parts = path.endsWith('.json')
      ? [`${JSON.stringify(report, null, 2)}\n`]
      : await pageOf(report, samples)
    await writeParts(path, parts)
  }
  const named = tables === undefined ? [] : await writeTables(report, tables)
  return [...out, ...named, ...(tokens === undefined ? [] : [tokens])]
}

async function pageOf(report: RoutingReport, samples: readonly Sample[]) {
  const { reportPage } = await import('../routing/page-file.js')
  return [await reportPage(report, samples)]
}

async function writeTables(report: RoutingReport, folder: string): Promise<string[]> {
  await attempt(`${folder}: cannot be made`, () => mkdir(folder, { recursive: true }))
  const written: string[] = []
  for (const { name, lines } of csvTables(report)) {
    const path = tableFile(folder, name)
    await writeParts(path, lines)
    written.push(path)
  }
  return written
}

const APPENDED_CHARACTERS = 2 ** 18

async function writeParts(path: string, parts: Iterable<string>): Promise<void> {
  await StagedFile.with(path, async file => {
    let text = ''
    for (const part of parts) {
      text += part
      if (text.length < APPENDED_CHARACTERS) continue
      await file.append(Buffer.from(text))
      text = ''
    }
    await file.append(Buffer.from(text))
  })
}
