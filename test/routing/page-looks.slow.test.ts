/** The report's page: texts that mean harm, absent numbers, accessibility, paper. */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { accessibilityFaults } from '../server/browser.js'
import { root } from '../support/golden.js'
import { reportOf, surveyed } from './fixture.js'
import { double, inBrowser, one, SHAPE, single } from './report-page.js'

const screenshots = join(root, 'build', 'screenshots')
mkdirSync(screenshots, { recursive: true })

const EVIL = '</script><img src=x onerror=alert(1)>\u202e\0"'
const evil = surveyed({
  ...{ ...SHAPE, tokens: 30, layers: 2, file: EVIL, model: EVIL, hasCost: false },
  ...{ hasResiduals: false, texts: [EVIL, '\n', ''] },
})

inBrowser(
  'texts are texts; what is absent is said',
  { report: reportOf(evil.subject), samples: [evil.sample] },
  async (t, page) => {
    t.equal(await page.locator('img').count(), 0)
    t.match(await page.locator('.said').textContent(), '</script><img src=x onerror=alert(1)>')
    t.match(await page.locator('.said').textContent(), '\\u{202e}\\u{00}"')
    t.match(await page.locator('#overview table').textContent(), '<img')
    t.match(await page.locator('#cost').textContent(), 'The report has no costs.')
    t.match(await page.locator('#residuals').textContent(), 'No gating residuals')
  },
)

inBrowser(
  'a report without its text',
  { report: reportOf({ ...one.subject, findings: [] }), samples: [undefined] },
  async (t, page) => {
    t.match(await page.locator('#text').textContent(), 'written without its text')
    t.equal(await page.locator('.findings').count(), 0)
  },
)

/** By name: what a browser shows, and which reports it shows so. */
const LOOKS = {
  light: { context: { colorScheme: 'light' }, reports: { one: single, two: double } },
  dark: { context: { colorScheme: 'dark' }, reports: { two: double } },
  phone: {
    context: { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true },
    reports: { two: double },
  },
} as const

for (const [look, { context, reports }] of Object.entries(LOOKS)) {
  for (const [name, parts] of Object.entries(reports)) {
    inBrowser(
      `anyone can use it: ${look}, ${name}`,
      parts,
      async (t, page) => {
        const shot = (what: string) =>
          page.screenshot({ path: join(screenshots, `routing-${look}-${name}-${what}.png`) })
        await shot('overview')
        const fits = 'document.documentElement.scrollWidth <= innerWidth'
        t.equal(await page.evaluate(fits), true, 'nothing beside the page')
        for (const id of ['vocabulary', 'layers', 'residuals', 'cost']) {
          await page.locator(`#${id}`).evaluate(part => part.scrollIntoView())
          await shot(id)
        }
        if (name === 'two' && look !== 'phone')
          await page.getByLabel('Beside it').selectOption('other')
        await page.locator('.said .token').nth(20).click()
        await page.locator('.path tbody tr').first().waitFor()
        await page.locator('#text').evaluate(part => part.scrollIntoView())
        await shot('text')
        await page.getByRole('searchbox', { name: 'Search' }).first().fill('ship')
        await page.locator('.is-current').first().waitFor()
        for (const summary of await page.locator('summary').all()) await summary.click()
        t.same(await accessibilityFaults(page), [])
        t.equal(await page.evaluate(fits), true, 'with all numbers')
      },
      context,
    )
  }
}

inBrowser('on paper', double, async (t, page) => {
  await page.emulateMedia({ media: 'print', colorScheme: 'dark' })
  t.equal(await page.locator('.controls').first().isVisible(), false)
  t.equal(
    await page.evaluate('getComputedStyle(document.body).color'),
    'rgb(26, 29, 33)',
    'light colours, whatever the system has',
  )
  const path = join(screenshots, 'routing.pdf')
  await page.pdf({ path, format: 'A4', printBackground: true })
})
