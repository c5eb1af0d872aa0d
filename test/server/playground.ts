/** The playground as the tests in a browser use it. */
import type { BrowserContextOptions, Page } from 'playwright-core'
import t, { type Test } from 'tap'
import { noBrowser, withPage } from './browser.js'

export const status = (page: Page) => page.locator('#status')
export const answer = (page: Page) => page.locator('.turn:not(.is-question)').last()
export const ended = (page: Page) => answer(page).locator('.summary').waitFor()
export const details = (page: Page) => page.locator('#details')

export const fits = (page: Page) =>
  page.evaluate('document.documentElement.scrollWidth <= innerWidth')

/** The server has named its models. */
export const ready = (page: Page) =>
  page.locator('#model option').first().waitFor({ state: 'attached' })

/** Writes a prompt and sends it. */
export async function send(page: Page, text: string): Promise<void> {
  await ready(page)
  await page.locator('#prompt').fill(text)
  await page.keyboard.press('Control+Enter')
}

/** Presses a key until an element has the focus. */
export async function reach(page: Page, selector: string, key = 'Tab'): Promise<void> {
  for (let i = 0; i < 40; i++) {
    await page.keyboard.press(key)
    if ((await page.locator(`${selector}:focus`).count()) > 0) return
  }
  throw new Error(`${key} does not reach ${selector}`)
}

/** A function that adds a test with the page at an address. */
export function testsOf(url: string) {
  return (
    name: string,
    use: (t: Test, page: Page) => Promise<void>,
    context: BrowserContextOptions = {},
  ): void => {
    t.test(name, { skip: noBrowser }, t => withPage(t, url, context, page => use(t, page)))
  }
}
