/** Debian's Chromium, for the tests of pages. */
import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { type BrowserContextOptions, chromium, type Page } from 'playwright-core'
import type { Test } from 'tap'

const PROGRAM = '/usr/bin/chromium'

/** Says why tests with a browser are left out; false where there is one. */
export const noBrowser =
  !existsSync(PROGRAM) && `${PROGRAM} was not found; the page was not tested in a browser`

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')

const browser = noBrowser
  ? undefined
  : await chromium.launch({ executablePath: PROGRAM, args: ['--no-sandbox'] })

export const closeBrowser = () => browser?.close()

/**
 * Runs `use` with a page at an address: a server's, or a file's. The test fails if the page asks
 * for anything else, or if a script throws or breaks the page's policy.
 */
export async function withPage(
  t: Test,
  url: string,
  options: BrowserContextOptions,
  use: (page: Page) => Promise<void>,
): Promise<void> {
  const context = await browser!.newContext(options)
  context.setDefaultTimeout(10_000)
  const faults: string[] = []
  await context.route('**/*', route => {
    const asked = route.request().url()
    if (asked === url || asked.startsWith(`${url}/`)) return route.continue()
    faults.push(`a request to ${asked}`)
    return route.abort()
  })
  const page = await context.newPage()
  page.on('pageerror', error => faults.push(error.stack ?? error.message))
  page.on('console', message => {
    // The browser's own line for a response like 401.
    const isStatus = message.text().startsWith('Failed to load resource')
    if (message.type() === 'error' && !isStatus) faults.push(message.text())
  })
  try {
    await page.goto(url)
    await use(page)
  } finally {
    await context.close()
  }
  t.same(faults, [], 'no other host, no error of a script, no breach of the policy')
}

/** The faults of accessibility that axe finds. */
export async function accessibilityFaults(page: Page): Promise<string[]> {
  await page.evaluate(axe)
  const found = (await page.evaluate(
    "axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] })",
  )) as { violations: { id: string; nodes: { html: string; failureSummary: string }[] }[] }
  return found.violations.flatMap(({ id, nodes }) =>
    nodes.map(({ html, failureSummary }) => `${id}: ${html}\n${failureSummary}`),
  )
}
