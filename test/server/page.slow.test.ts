/** The playground in a browser, by keys alone where keys can do it. */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Page } from 'playwright-core'
import t, { type Test } from 'tap'
import { root } from '../support/golden.js'
import { accessibilityFaults, closeBrowser, noBrowser, withPage } from './browser.js'
import { BASE, CHAT, fakeOpenAi, KEY, STORY } from './fake-openai.js'
import { answer, details, ended, fits, reach, ready, send, status, testsOf } from './playground.js'

const screenshots = join(root, 'build', 'screenshots')
mkdirSync(screenshots, { recursive: true })

const server = await fakeOpenAi()
t.teardown(async () => {
  await closeBrowser()
  await server.close()
})

const inBrowser = testsOf(server.url)

inBrowser('a chat by keys alone', async (t, page) => {
  t.equal(await page.locator('#prompt:focus').count(), 1, 'the prompt has the focus')
  await ready(page)
  await page.keyboard.type('story')
  await page.keyboard.press('Control+Enter')
  await ended(page)
  t.equal(await answer(page).locator('.said').textContent(), STORY)
  t.match(
    await answer(page).locator('.summary').textContent(),
    /^7 \+ 8 tokens · .* tokens\/s · first after .* s · 1\.44 FFN .* · cut at the limit of tokens$/,
  )
  t.equal(await status(page).textContent(), 'Done.')
  t.match(server.bodies.at(-1), {
    model: CHAT,
    messages: [{ role: 'user', content: 'story' }],
    max_completion_tokens: 256,
    stream: true,
    stream_options: { include_usage: true },
    logprobs: true,
    top_logprobs: 5,
  })
  t.notOk('temperature' in server.bodies.at(-1)!, 'an empty field is the server’s to choose')

  await reach(page, '.token', 'Shift+Tab')
  t.match(await details(page).textContent(), /^The 98 %, logprob -0\.020The98 %␣other1\.4 %/)
  await page.keyboard.press('ArrowRight')
  await page.keyboard.press('ArrowRight')
  t.match(await details(page).textContent(), /^␣lighthouse 32 %/)
  t.equal(await page.locator('.token[tabindex]').count(), 1, 'the tab index roves')
  await page.keyboard.press('End')
  t.match(await details(page).textContent(), /^␣waited\./)
  await page.keyboard.press('ArrowRight')
  t.match(await page.locator('.token:focus').textContent(), ' waited.', 'the last one stays')
  await page.setViewportSize({ width: 320, height: 480 })
  t.equal(await fits(page), true, 'a page enlarged to 400 %')
  await page.keyboard.press('Home')
  t.match(await details(page).textContent(), /^The 98 %/)
  await page.keyboard.press('End')
  t.equal(await details(page).isVisible(), true, 'scrolling to a token hides nothing')
  await page.keyboard.press('Escape')
  t.equal(await details(page).isVisible(), false)
  await page.setViewportSize({ width: 1280, height: 800 })

  await reach(page, '.actions button')
  await page.keyboard.press('Enter')
  await answer(page).locator('.summary').waitFor()
  t.same(
    server.bodies.at(-1)!.messages?.map(({ content }) => content),
    ['story', STORY, 'Continue.'],
    'continue asks the model to',
  )
  await reach(page, '.actions button:last-child', 'Shift+Tab')
  await page.keyboard.press('Enter')
  await ended(page)
  t.same(server.bodies.at(-1), server.bodies.at(-2), 'regenerate asks the same')
  t.equal(await page.locator('.turn').count(), 4)
})

inBrowser('Escape stops', async (t, page) => {
  const before = server.aborted
  await send(page, 'slow')
  await answer(page).locator('.token').nth(5).waitFor()
  t.equal(await page.locator('#send').textContent(), 'Stop')
  await page.keyboard.press('Escape')
  await ended(page)
  t.match(await answer(page).locator('.summary').textContent(), /^\d+ tokens · .* · stopped$/)
  t.equal(await page.locator('#send').textContent(), 'Send')
  while (server.aborted === before) await new Promise(done => setTimeout(done, 10))

  await send(page, 'slow')
  await answer(page).locator('.token').nth(5).waitFor()
  await page.locator('#send').click()
  await ended(page)
  t.match(server.bodies.at(-1)!.messages, [{ content: 'slow' }, { role: 'assistant' }, {}])
  await page.locator('#clear').click()
  t.equal(await page.locator('.turn').count(), 0)

  await send(page, 'slow')
  await answer(page).locator('.token').nth(5).waitFor()
  await page.locator('#clear').click()
  await page.getByRole('button', { name: 'Send' }).waitFor()
  t.equal(await page.locator('.turn').count(), 0, 'a running answer is stopped, too')
})

inBrowser('settings reach the request; a completion goes on', async (t, page) => {
  await page.locator('input[value="chat"]').focus()
  await page.keyboard.press('ArrowRight')
  t.equal(await page.locator('#system-field').isVisible(), false)
  for (const [name, value] of [
    ['max_tokens', '32'],
    ['seed', '5'],
    ['temperature', '0.5'],
    ['top_p', '0.9'],
    ['top_k', '40'],
    ['min_p', '0.05'],
    ['stop', 'END\n\\n\\n'],
    ['presence_penalty', '0.1'],
    ['frequency_penalty', '-0.2'],
    ['repetition_penalty', '1.1'],
  ] as const)
    await page.locator(`[name="${name}"]`).fill(value)
  await send(page, 'Once')
  await ended(page)
  const sent = {
    model: CHAT,
    prompt: 'Once',
    max_tokens: 32,
    seed: 5,
    temperature: 0.5,
    top_p: 0.9,
    top_k: 40,
    min_p: 0.05,
    stop: ['END', '\n\n'],
    presence_penalty: 0.1,
    frequency_penalty: -0.2,
    repetition_penalty: 1.1,
    logprobs: 5,
    stream: true,
    stream_options: { include_usage: true },
  }
  t.same(server.bodies.at(-1), sent)
  const first = await answer(page).locator('.said').textContent()
  await page.locator('.token').nth(1).hover()
  t.match(await details(page).textContent(), /^␣old 61 %.*␣other39 %/)
  await details(page).hover()
  t.equal(await details(page).isVisible(), true, 'the pointer may move onto them')
  await page.mouse.move(1, 1)
  await details(page).waitFor({ state: 'hidden' })

  await page.getByRole('button', { name: 'Continue' }).click()
  await ended(page)
  t.equal(server.bodies.at(-1)!.prompt, `Once${first}`)
  t.equal(await answer(page).locator('.said').textContent(), `${first}${first}`, 'it is appended')

  const colour = () =>
    page.evaluate("getComputedStyle(document.querySelectorAll('.token')[4]).backgroundColor")
  t.not(await colour(), 'rgba(0, 0, 0, 0)')
  await page.locator('#colours').selectOption('nothing')
  t.equal(await colour(), 'rgba(0, 0, 0, 0)')
  t.equal(await page.locator('#scale').isVisible(), false)
  await page.locator('[name="probabilities"]').press('Space')
  await send(page, 'Twice')
  await ended(page)
  t.notOk('logprobs' in server.bodies.at(-1)!)

  await page.locator('[name="temperature"]').fill('9')
  const count = server.bodies.length
  await send(page, 'x')
  t.equal(await page.locator('[name="temperature"]:focus').count(), 1, 'a wrong value is shown')
  t.equal(server.bodies.length, count)
})

inBrowser('a model without a chat template completes', async (t, page) => {
  await page.locator('#model').selectOption(BASE)
  await page.locator('#no-chat').waitFor()
  t.equal(await page.locator('input[value="chat"]').isDisabled(), true)
  await send(page, 'Once')
  await ended(page)
  t.match(server.bodies.at(-1), { model: BASE, prompt: 'Once' })
  await page.locator('#model').selectOption(CHAT)
  await page.locator('#no-chat').waitFor({ state: 'hidden' })
  t.equal(await page.locator('input[value="chat"]').isDisabled(), false)
})

inBrowser('thoughts, calls and characters of several tokens', async (t, page) => {
  await page.locator('[name="system"]').fill('Be brief.')
  await send(page, 'thoughts')
  await ended(page)
  t.match(server.bodies.at(-1)!.messages, [{ role: 'system', content: 'Be brief.' }, {}])
  t.equal(await page.locator('.thoughts .said').textContent(), 'The user asks for weather.')
  t.equal(await answer(page).locator('> .said').textContent(), 'It is mild.')
  await page.locator('.thoughts summary').focus()
  await page.keyboard.press('Enter')
  t.equal(await page.locator('.thoughts .said').isVisible(), false)

  await send(page, 'call')
  await ended(page)
  t.equal(await page.locator('.call').textContent(), 'weather({"city": "Oslo"})')
  const { messages } = server.bodies.at(-1)!
  t.same(messages?.[2], { role: 'assistant', content: 'It is mild.' }, 'no thoughts go back')

  await send(page, 'emoji')
  await ended(page)
  t.equal(await answer(page).locator('> .said').textContent(), '😀 日本')
  await answer(page).locator('.token').first().hover()
  t.equal(await details(page).locator('.chosen').count(), 2, 'a character of two tokens')
})

inBrowser('text of a model is never HTML', async (t, page) => {
  await send(page, 'html')
  await ended(page)
  t.equal(
    await answer(page).locator('> .said').textContent(),
    '<img src=x onerror="document.title=1"><b>bold</b>',
  )
  t.equal(await page.locator('.turn img, .turn b, .turn script').count(), 0)
  t.equal(await page.title(), 'moepp playground')
})

inBrowser('errors are said', async (t, page) => {
  for (const [name, message] of [
    ['error', 'The device failed.'],
    ['json', /^The server sent an event that is no JSON/],
    ['cut', 'The stream ended early: the answer is not whole.'],
    ['busy', 'The queue is full. Try again in 3 s.'],
  ] as const) {
    await send(page, name)
    await answer(page).locator('.failure').waitFor()
    t.match(await answer(page).locator('.failure').textContent(), message)
    t.match(await status(page).textContent(), message)
  }
  await page.getByRole('button', { name: 'Try again' }).waitFor()
})

t.test('an API key is asked for, and kept for the tab', { skip: noBrowser }, async t => {
  const closed = await fakeOpenAi({ wantsKey: true })
  t.teardown(() => closed.close())
  await withPage(t, closed.url, {}, async page => {
    await page.locator('#key:focus').waitFor()
    t.equal(await status(page).textContent(), 'Incorrect API key provided.')
    t.same(await accessibilityFaults(page), [])
    for (const key of ['sk-wrong', KEY]) {
      await page.locator('#key:focus').waitFor()
      await page.keyboard.type(key)
      await page.keyboard.press('Enter')
    }
    await send(page, 'story')
    await ended(page)
    await page.reload()
    await send(page, 'story')
    await ended(page)
    t.equal(await page.locator('#key-form').isVisible(), false)
    t.equal(await page.evaluate('localStorage.length'), 0)
  })
})

for (const [name, context] of [
  ['light', { viewport: { width: 1280, height: 800 }, colorScheme: 'light' }],
  ['dark', { viewport: { width: 1280, height: 800 }, colorScheme: 'dark' }],
  ['phone', { viewport: { width: 360, height: 740 }, hasTouch: true, deviceScaleFactor: 2 }],
] as const) {
  const colourBy = async (page: Page, what: string) => {
    if (name === 'phone') await page.locator('#open-settings').click()
    await page.locator('#colours').selectOption(what)
    if (name === 'phone') await page.keyboard.press('Escape')
  }
  const looks = async (t: Test, page: Page) => {
    const shot = (what: string) =>
      page.screenshot({ path: join(screenshots, `${name}-${what}.png`) })
    await shot('empty')
    t.same(await accessibilityFaults(page), [])
    await send(page, 'thoughts')
    await ended(page)
    await send(page, 'call')
    await ended(page)
    await send(page, 'story')
    await ended(page)
    await send(page, 'error')
    await answer(page).locator('.failure').waitFor()
    await shot('error')
    await page.locator('#clear').click()
    await colourBy(page, 'experts')
    await send(page, 'thoughts')
    await ended(page)
    await send(page, 'story')
    await ended(page)
    const costly = answer(page).locator('.token').nth(2)
    await (name === 'phone' ? costly.tap() : costly.click())
    await details(page).waitFor()
    await shot('experts')
    t.same(await accessibilityFaults(page), [])
    await page.locator('#clear').click()
    await colourBy(page, 'probability')
    await send(page, 'thoughts')
    await ended(page)
    await send(page, 'story')
    await ended(page)
    const token = answer(page).locator('.token').nth(4)
    if (name === 'phone') await token.tap()
    else await token.hover()
    await details(page).waitFor()
    await shot('details')
    t.same(await accessibilityFaults(page), [])
    t.equal(await fits(page), true)
    if (name === 'phone') {
      await page.keyboard.press('Escape')
      await page.locator('#open-settings').click()
      t.equal(await page.locator('#close-settings:focus').count(), 1)
      await page.locator('#colours').selectOption('experts')
      await page.locator('#colours').scrollIntoViewIfNeeded()
      await shot('settings')
      t.same(await accessibilityFaults(page), [])
      await page.keyboard.press('Escape')
      t.equal(await page.locator('#open-settings:focus').count(), 1)
      await page.locator('#settings').waitFor({ state: 'hidden' })
    }
  }
  const still = { ...context, reducedMotion: 'reduce' } as const
  inBrowser(`${name}: accessible, and nothing is cut off`, looks, still)
}

const theme = async (t: Test, page: Page) => {
  const ground = () => page.evaluate('getComputedStyle(document.body).backgroundColor')
  const light = await ground()
  await page.getByRole('button', { name: 'Dark theme', pressed: false }).press('Enter')
  t.not(await ground(), light)
  await page.reload()
  t.not(await ground(), light, 'it is kept')
  await page.getByRole('button', { name: 'Dark theme', pressed: true }).press('Enter')
  t.equal(await ground(), light)
}
inBrowser("the theme's button", theme, { colorScheme: 'light' })
