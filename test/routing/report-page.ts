/** Reports of random choices as pages in a browser, and what their samples say. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { BrowserContextOptions, Locator, Page } from 'playwright-core'
import t, { type Test } from 'tap'
import { reportPage } from '../../lib/routing/page-file.js'
import type { RoutingReport, Sample, TokenRows } from '../../lib/routing/types.js'
import { closeBrowser, noBrowser, withPage } from '../server/browser.js'
import { ffnExpertsOf, reportOf, type Shape, surveyed } from './fixture.js'

const folder = t.testdir()
t.teardown(() => closeBrowser())

export const SHAPE: Shape = {
  ...{ tokens: 4000, layers: 12, topK: 2 },
  experts: { ffn: 8, constant: 2, copy: 1, zero: 1 },
}
export const one = surveyed(SHAPE)
export const other = surveyed({ ...SHAPE, seed: 2, model: 'models/other', tokens: 3000 })
/** Tokens of a page of text. */
export const PAGE = 1500

let files = 0

/** A test with the page of a report, opened from disk. */
export function inBrowser(
  name: string,
  parts: { report: RoutingReport; samples: (Sample | undefined)[] },
  use: (t: Test, page: Page) => Promise<void>,
  context: BrowserContextOptions = {},
): void {
  t.test(name, { skip: noBrowser }, async t => {
    const file = join(folder, `${++files}.html`)
    writeFileSync(file, await reportPage(parts.report, parts.samples))
    await withPage(t, pathToFileURL(file).href, context, async page => {
      await page.locator('#state').waitFor({ state: 'hidden' })
      await use(t, page)
    })
  })
}

export const single = { report: reportOf(one.subject), samples: [one.sample] }
export const double = {
  report: reportOf(one.subject, other.subject),
  samples: [one.sample, other.sample],
}

/** Token `i` of a sample: its rows, and its place there. */
export function at({ rows }: Sample, i: number): { row: TokenRows; place: number } {
  const row = rows.find(({ first, tokens }) => i >= first && i < first + tokens.length)!
  return { row, place: i - row.first }
}

export function textOf(sample: Sample, i: number): string {
  const { row, place } = at(sample, i)
  return row.texts[place]!
}

/** FFN experts of a token in each layer. */
export function ffnOf(sample: Sample, i: number): number[] {
  const { row, place } = at(sample, i)
  return row.layers.map(layer => ffnExpertsOf(layer, place))
}

export const meanOf = (values: readonly number[]) =>
  values.reduce((sum, value) => sum + value, 0) / values.length

/** Means of tokens, but for 1 % at each end. */
export function meanScale(sample: Sample): { least: number; most: number } {
  const length = sample.rows.reduce((sum, { tokens }) => sum + tokens.length, 0)
  const means = Array.from({ length }, (_, i) => meanOf(ffnOf(sample, i))).sort((a, b) => a - b)
  const beyond = Math.floor(length / 100)
  return { least: means[beyond]!, most: means[length - 1 - beyond]! }
}

/** The cells of a table's body, a list for each row. */
export const cellsOf = (table: Locator): Promise<string[][]> =>
  table.locator('tbody tr').evaluateAll(rows => {
    const textsOf = (cells: Iterable<{ textContent: string }>) =>
      Array.from(cells, cell => cell.textContent)
    return rows.map(row => textsOf(row.childNodes))
  })

const figure = (page: Page, title: string) =>
  page.locator('figure').filter({ has: page.getByRole('heading', { name: title, exact: true }) })

export async function numbersOf(page: Page, title: string): Promise<string[][]> {
  const found = figure(page, title)
  await found.locator('summary').click()
  await found.locator('tbody tr').first().waitFor()
  return cellsOf(found.locator('table'))
}

/** `--value` of each token on the page. */
export const values = (page: Page): Promise<number[]> =>
  page
    .locator('.said .token')
    .evaluateAll(tokens => tokens.map(token => Number(token.style.getPropertyValue('--value'))))

export const group = (page: Page) => page.getByRole('group', { name: 'Pages of the text' })
