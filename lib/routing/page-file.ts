/** The report as a page: one HTML file, which asks no host for anything. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { packed, packedSample } from './page-columns.js'
import { PATH_BYTES, type PageData } from './page-format.js'
import type { RoutingReport, Sample } from './types.js'

/** The page without data: `scripts/page.mjs` makes it. */
const TEMPLATE = join(import.meta.dirname, 'page', 'index.html')

/** The template's place for data. */
const PLACE = '<!--data-->'

/** The HTML of a report's page, with a sample of each subject's tokens where there is one. */
export async function reportPage(
  report: RoutingReport,
  samples: readonly (Sample | undefined)[],
): Promise<string> {
  const template = await readFile(TEMPLATE, 'utf8')
  const pathBytes = PATH_BYTES / Math.max(report.subjects.length, 1)
  const data: PageData = {
    report: await packed(JSON.stringify(report)),
    samples: await Promise.all(
      report.subjects.map(async (_, i) => {
        const sample = samples[i]
        return sample === undefined ? null : packedSample(sample, pathBytes)
      }),
    ),
  }
  // Base64, numbers and the names of kinds of experts: nothing that HTML could read as its own.
  const [before = '', after = ''] = template.split(PLACE)
  return before + JSON.stringify(data) + after
}
