/** The playground's colours by FFN experts, in a browser. */
import type { Page } from 'playwright-core'
import t from 'tap'
import { closeBrowser } from './browser.js'
import { BASE, fakeOpenAi, ffnExperts, TOP_K } from './fake-openai.js'
import { answer, details, ended, send, testsOf } from './playground.js'

const server = await fakeOpenAi()
t.teardown(async () => {
  await closeBrowser()
  await server.close()
})
const inBrowser = testsOf(server.url)

/** The shades of an answer's tokens; '' for a token without colour. */
const shades = (page: Page) =>
  answer(page)
    .locator('.token')
    .evaluateAll(tokens => tokens.map(token => (token as Styled).style.getPropertyValue('--value')))
interface Styled {
  readonly style: { getPropertyValue(name: string): string }
}
const shadeOf = (i: number) => (1 - ffnExperts(i) / TOP_K).toFixed(3)

inBrowser('FFN experts colour the tokens, one chunk late', async (t, page) => {
  await page.locator('#colours option[value="experts"]:enabled').waitFor({ state: 'attached' })
  await page.locator('#colours').focus()
  await page.keyboard.press('ArrowDown')
  t.match(await page.locator('#scale').textContent(), /^\s*2 FFN experts\s*0\s*$/)
  await send(page, 'story')
  await ended(page)
  t.match(server.bodies.at(-1), { return_routing: true, logprobs: true, top_logprobs: 5 })
  const all = await shades(page)
  t.same(all, [...all.slice(0, -1).map((_, i) => shadeOf(i)), ''], 'the last one has none')
  await answer(page).locator('.token').nth(2).click()
  t.match(
    await details(page).textContent(),
    /^␣lighthouse 32 %, logprob [-.\d]+, 2\.00 FFN experts/,
  )
  await page.keyboard.press('End')
  t.match(await details(page).textContent(), /^␣waited\. [\d.]+ %, logprob [-.\d]+␣/)

  await page.locator('#colours').selectOption('probability')
  t.same((await shades(page)).slice(0, 3), ['0.980', '0.610', '0.320'])
  t.match(await page.locator('#scale').textContent(), /^\s*unlikelycertain\s*$/)
  await page.locator('#colours').selectOption('experts')
  t.same(await shades(page), all, 'they are kept')

  await page.locator('[name="probabilities"]').press('Space')
  await send(page, 'thoughts')
  await ended(page)
  t.match(server.bodies.at(-1), { return_routing: true, logprobs: true, top_logprobs: 0 })
  t.same(await shades(page), [...[0, 1, 2, 3, 4].map(shadeOf), ''], 'thoughts come first')

  await send(page, 'slow')
  await answer(page).locator('.token').nth(5).waitFor()
  t.same((await shades(page)).slice(0, 5), [0, 1, 2, 3, 4].map(shadeOf), 'while the answer runs')
  await answer(page).locator('.token').first().click()
  await page.keyboard.press('End')
  await details(page).getByText('FFN experts').waitFor()
  await page.keyboard.press('Escape')
  await ended(page)

  await page.locator('#model').selectOption(BASE)
  await page.locator('#no-chat').waitFor()
  t.equal(await page.locator('#colours').inputValue(), 'probability', 'this model tells none')
  t.equal(await page.locator('#colours option[value="experts"]').isDisabled(), true)
})

inBrowser('FFN experts of a completion that goes on', async (t, page) => {
  await page.locator('#colours option[value="experts"]:enabled').waitFor({ state: 'attached' })
  await page.locator('input[value="completion"]').focus()
  await page.keyboard.press('Space')
  await page.locator('#colours').selectOption('experts')
  await send(page, 'Once')
  await ended(page)
  const first = [...[0, 1, 2, 3, 4].map(shadeOf), '']
  t.same(await shades(page), first)
  await page.getByRole('button', { name: 'Continue' }).click()
  await ended(page)
  t.same(await shades(page), [...first, ...first], 'each request has tokens of its own')
})
