/** The report's page in a browser, as a file. Plain loops here count what it shows. */
import { EXPERT_KINDS } from '../../lib/program/expert-kinds.js'
import type { Subject } from '../../lib/routing/types.js'
import { ffnExpertsOf } from './fixture.js'
import {
  at,
  cellsOf,
  double,
  ffnOf,
  group,
  inBrowser,
  meanOf,
  meanScale,
  numbersOf,
  one,
  other,
  PAGE,
  SHAPE,
  single,
  textOf,
  values,
} from './report-page.js'

inBrowser('the numbers of layers', single, async (t, page) => {
  const picks = await numbersOf(page, 'Picks by kind of expert')
  const tokens = await numbersOf(page, 'Tokens by their FFN experts')
  const loads = await numbersOf(page, 'Load of each expert')
  const { rows } = one.sample
  const shown: string[][] = []
  for (let l = 0; l < SHAPE.layers; l++) {
    const counts = Array<number>(12).fill(0)
    const numbers = [0, 0, 0]
    for (const { layers, tokens } of rows) {
      for (const expert of layers[l]!.experts) counts[expert]!++
      for (let i = 0; i < tokens.length; i++) numbers[ffnExpertsOf(layers[l]!, i)]!++
    }
    const { layer, kinds } = rows[0]!.layers[l]!
    const name = String(layer)
    t.same(picks[l], [
      name,
      ...EXPERT_KINDS.flatMap(kind => {
        const sum = counts.reduce((sum, value, e) => sum + (kinds[e] === kind ? value : 0), 0)
        return [sum.toLocaleString('en-US'), ((100 * sum) / 8000).toFixed(1)]
      }),
    ])
    t.same(tokens[l], [
      name,
      ...numbers.flatMap(n => [n.toLocaleString('en-US'), ((100 * n) / 4000).toFixed(1)]),
    ])
    counts.forEach((count, e) => {
      const kind = kinds[e] === 'ffn' ? 'FFN' : kinds[e]!
      const load = ((count * 12) / 8000).toFixed(2)
      shown.push([name, String(e), kind, count.toLocaleString('en-US'), load])
    })
  }
  t.same(loads, shown)

  const entropies = await numbersOf(page, 'Entropy of loads and of the router')
  one.subject.layers.forEach(({ picks, router }, l) => {
    let bits = 0
    for (const count of picks) if (count > 0) bits += (count / 8000) * Math.log2(8000 / count)
    t.same(entropies[l]!.slice(1), [
      ...[bits, router!.entropy / 4000, Math.log2(12)].map(value => value.toFixed(3)),
    ])
  })
  const variances = await numbersOf(page, 'Variance of routing scores')
  t.same(
    variances.map(([, ...cells]) => cells),
    one.subject.layers.map(({ router }) => [
      router!.scores.variance.toFixed(3),
      router!.ownScores?.variance.toFixed(3) ?? '–',
    ]),
  )
  const correlations = await numbersOf(page, 'Cost of a token in neighbouring layers')
  t.equal(correlations[1]![1], '–', 'a correlation that there is not')
  t.equal(await page.locator('.drawing svg[role=img]').count(), 14)
  t.match(await page.locator('.findings li').allTextContents(), [/Layer 3/, /Layer 5/])
})

inBrowser('colours are FFN experts: the mean, or a layer’s', single, async (t, page) => {
  const { least, most } = meanScale(one.sample)
  t.ok(least > 0 && most < 2 && most - least > 0.1, 'the test needs tokens that differ')
  const shade = (value: number, least: number, most: number) =>
    Number(Math.min(Math.max((most - value) / (most - least), 0), 1).toFixed(3))
  const expectedMeans = Array.from({ length: PAGE }, (_, i) =>
    shade(meanOf(ffnOf(one.sample, i)), least, most),
  )
  const expected = (of: (numbers: number[]) => number, from = 0) =>
    Array.from({ length: PAGE }, (_, i) => shade(of(ffnOf(one.sample, from + i)), 0, 2))
  const texts = await page.locator('.said .token').allTextContents()
  t.equal(texts.join(''), Array.from({ length: PAGE }, (_, i) => textOf(one.sample, i)).join(''))
  t.same(await values(page), expectedMeans)
  const key = page.locator('.scale')
  const ends = [`≤ ${least.toFixed(2)}`, `≥ ${most.toFixed(2)}`]
  t.match(await key.textContent(), `Mean FFN experts per layer: ${ends.join('')}`)
  const slider = page.getByLabel('Colour by')
  await slider.focus()
  await page.keyboard.press('ArrowRight')
  t.equal(await page.locator('output').textContent(), 'layer 1')
  t.match(await key.textContent(), 'FFN experts in layer 1: 02')
  t.same(
    await values(page),
    expected(([first]) => first!),
  )
  await page.keyboard.press('End')
  t.equal(await slider.getAttribute('aria-valuetext'), 'layer 23')
  t.same(
    await values(page),
    expected(numbers => numbers[11]!),
  )
  for (const number of [0, 1, 2]) {
    const i = Array.from({ length: PAGE }).findIndex(
      (_, i) => ffnOf(one.sample, i)[11] === number && textOf(one.sample, i) !== '',
    )
    const colour = await page
      .locator('.said .token')
      .nth(i)
      .evaluate(token => token.computedStyleMap().get('background-color')!.toString())
    const alpha = Number(/ ([\d.]+)\)$/.exec(String(colour))?.[1] ?? Number.NaN)
    t.ok(Math.abs(alpha - 0.325 * number) < 0.005, `${number} FFN experts: ${colour}`)
  }
  await group(page).getByRole('button', { name: 'Next' }).click()
  t.same(
    await values(page),
    expected(numbers => numbers[11]!, PAGE),
    'the next page, too',
  )
  await group(page).getByRole('spinbutton').fill('3')
  await page.keyboard.press('Enter')
  t.equal(await page.locator('.said .token').count(), 1000)
  t.equal(await group(page).getByRole('button', { name: 'Next' }).isDisabled(), true)
  await group(page).getByRole('spinbutton').fill('99')
  await page.keyboard.press('Enter')
  t.equal(await group(page).getByRole('spinbutton').inputValue(), '3', 'the nearest')
})

inBrowser('the path of a token, by pointer and by keys', single, async (t, page) => {
  async function check(i: number): Promise<void> {
    const { row, place } = at(one.sample, i)
    const path = page.locator('.path')
    await path.getByText(`token ${i.toLocaleString('en-US')},`).waitFor()
    await path.locator('tbody tr').first().waitFor()
    t.match(
      await path.locator('p').first().textContent(),
      `id ${row.tokens[place]}: ${meanOf(ffnOf(one.sample, i)).toFixed(2)} FFN experts per layer. ` +
        `Window ${row.window}, place ${place}.`,
    )
    const expected = row.layers.map(({ layer, kinds, experts, ...columns }, l) => [
      String(layer),
      String(ffnOf(one.sample, i)[l]),
      ...[2 * place, 2 * place + 1].map(pick => {
        const kind = kinds[experts[pick]!]!
        const share = Math.round(columns.replaced[pick]! * 100)
        return (
          `${kind === 'ffn' ? 'FFN' : kind} ${experts[pick]}` +
          [columns.weights[pick]!, columns.logits[pick]!].map(v => v.toFixed(2)).join(' · ') +
          (share > 0 ? ` · ${share} %` : '')
        ).replace('-', '−')
      }),
    ])
    t.same(await cellsOf(path.locator('table')), expected)
  }
  await page.locator('.said .token').nth(700).hover()
  await check(700)
  await page.locator('.said .token').nth(700).click()
  await page.keyboard.press('ArrowRight')
  await check(701)
  await page.keyboard.press('End')
  await check(PAGE - 1)
  await page.keyboard.press('Escape')
  t.equal(await page.locator('.path tbody tr').count(), 0)
  await group(page).getByRole('button', { name: 'Next' }).focus()
  await page.keyboard.press('Enter')
  await page.locator('.said .token').nth(1000).hover()
  await check(PAGE + 1000)
})

inBrowser('the search finds across pages', single, async (t, page) => {
  const query = 'KEEPER wait'
  const all = Array.from({ length: 4000 }, (_, i) => textOf(one.sample, i))
  const places: number[] = []
  const text = all.join('').toLowerCase()
  for (let from = 0; ; ) {
    const at = text.indexOf(query.toLowerCase(), from)
    if (at < 0) break
    places.push(at)
    from = at + query.length
  }
  t.ok(places.length > 3, 'the test needs some')
  const state = page.locator('.finder [role=status]')
  const field = page.getByRole('searchbox', { name: 'Search' })
  await field.fill(query)
  await state.filter({ hasText: `1 of ${places.length}` }).waitFor()
  t.equal(await page.locator('.is-current').allTextContents().then(join_), ' keeper wait')
  await field.press('Shift+Enter')
  await state.filter({ hasText: `${places.length} of ${places.length}` }).waitFor()
  let last = 0
  for (let length = all[0]!.length; length <= places.at(-1)!; length += all[last]!.length) last++
  const lastPage = String(Math.floor(last / PAGE) + 1)
  t.not(lastPage, '1', 'the test needs another page')
  t.equal(await group(page).getByRole('spinbutton').inputValue(), lastPage)
  t.equal(await page.locator('.is-current').allTextContents().then(join_), ' keeper wait')
  await page.getByRole('button', { name: 'Next match' }).click()
  t.equal(await state.textContent(), `1 of ${places.length}`)
  const found = await page.locator('.is-found').allTextContents()
  const end = all.slice(0, PAGE).join('').length
  t.equal(found.length, 2 * places.filter(place => place < end).length, 'all of the page')
  await field.fill('no such words')
  await state.filter({ hasText: 'not found' }).waitFor()
  t.equal(await page.locator('.is-found').count(), 0)
})
const join_ = (texts: string[]) => texts.join('')

inBrowser('the text as a table', single, async (t, page) => {
  await group(page).getByRole('button', { name: 'Next' }).click()
  await page.getByLabel('As a table').check()
  t.equal(await group(page).getByRole('spinbutton').inputValue(), '8', 'the same tokens')
  const rows = await cellsOf(page.locator('table.tokens'))
  t.equal(rows.length, 200)
  rows.forEach(([number, , mean, ...layers], i) => {
    const numbers = ffnOf(one.sample, 1400 + i)
    if (number !== (1400 + i).toLocaleString('en-US')) t.fail(`token ${number}`)
    t.same([mean, ...layers], [meanOf(numbers).toFixed(2), ...numbers.map(String)])
  })
  await page.locator('table.tokens button').nth(3).click()
  await page.locator('.path').getByText('token 1,403,').waitFor()
})

inBrowser('the vocabulary sorts and filters', single, async (t, page) => {
  const vocabulary = page.locator('.vocabulary')
  const { vocabulary: entries } = one.subject
  const shown = async () => (await cellsOf(vocabulary.locator('table'))).map(([, ...rest]) => rest)
  const cells = (of: Subject['vocabulary']) =>
    of.map(({ ffnExperts: { count, mean, halfWidth } }) => [
      String(count),
      mean.toFixed(2),
      halfWidth?.toFixed(2) ?? '',
    ])
  t.same(await shown(), cells(entries), 'by cost at first')
  const head = (name: string) => vocabulary.getByRole('columnheader', { name })
  t.equal(await head('FFN experts').getAttribute('aria-sort'), 'descending')
  await head('Count').getByRole('button').click()
  t.equal(await head('FFN experts').getAttribute('aria-sort'), null)
  const byCount = [...entries].sort((a, b) => b.ffnExperts.count - a.ffnExperts.count)
  t.same(
    (await shown()).map(([count]) => count),
    byCount.map(({ ffnExperts: { count } }) => String(count)),
  )
  await head('Count').getByRole('button').click()
  t.equal(await head('Count').getAttribute('aria-sort'), 'ascending')
  await head('Token').getByRole('button').click()
  t.equal(await head('Token').getAttribute('aria-sort'), 'ascending')
  await vocabulary.getByLabel('Filter').fill(' W')
  const expected = entries.filter(({ text }) => text.toLowerCase().includes(' w'))
  t.ok(expected.length > 1)
  t.same(
    (await vocabulary.locator('tbody th').allTextContents()).sort(),
    expected.map(({ text }) => text.replaceAll(' ', '␣')).sort(),
  )
  await vocabulary.getByLabel('Filter').fill('')
  for (const [kind, pattern] of [
    ['words and beginnings: after a space', /^ \p{L}/u],
    ['fragments: no space before', /^\p{L}/u],
    ['no letter at first', /^$|^ ?[^\p{L} ]/u],
  ] as const) {
    await vocabulary.getByLabel('Show').selectOption(kind)
    const kept = entries.filter(({ text }) => pattern.test(text))
    t.ok(kept.length > 0 && kept.length < entries.length)
    t.equal(await vocabulary.locator('tbody tr').count(), kept.length, kind)
  }
  await vocabulary.getByLabel('Show').selectOption('all tokens')
  await vocabulary.getByLabel('Count at least').fill('150')
  t.equal(
    await vocabulary.locator('tbody tr').count(),
    entries.filter(({ ffnExperts: { count } }) => count >= 150).length,
  )
})

inBrowser('two subjects', double, async (t, page) => {
  const difference = other.subject.ffnExperts.mean - one.subject.ffnExperts.mean
  const more = difference < 0 ? 'fewer' : 'more'
  t.match(
    await page.locator('#overview p.note').last().textContent(),
    new RegExp(`^other takes ${Math.abs(difference).toFixed(3)} ± .* ${more} .* than books-7m`),
  )
  const scales = [one, other].map(({ sample }) => meanScale(sample))
  const least = Math.min(...scales.map(({ least }) => least))
  const most = Math.max(...scales.map(({ most }) => most))
  await page.getByLabel('Beside it').selectOption('other')
  t.equal(await page.locator('.texts .page').count(), 2)
  await group(page).first().getByRole('button', { name: 'Next' }).click()
  const beside = page.locator('.chosen-text').nth(1).locator('.said .token')
  t.same(
    await beside.evaluateAll(tokens =>
      tokens.map(token => Number(token.style.getPropertyValue('--value'))),
    ),
    Array.from({ length: PAGE }, (_, i) => {
      const mean = meanOf(ffnOf(other.sample, PAGE + i))
      return Number(Math.min(Math.max((most - mean) / (most - least), 0), 1).toFixed(3))
    }),
    'both turn together, and have the same scale',
  )
  const picks = await numbersOf(page, 'Picks by kind of expert')
  t.equal(picks.length, 24)
  t.same(
    picks.map(([layer, name]) => [layer, name]),
    ['books-7m', 'other'].flatMap(name =>
      one.subject.layers.map(({ layer }) => [String(layer), name]),
    ),
  )
  const means = (subject: Subject) =>
    new Map(subject.vocabulary.map(({ text, ffnExperts }) => [text, ffnExperts.mean]))
  const [first, second] = [means(one.subject), means(other.subject)]
  const rows = await cellsOf(page.locator('.vocabulary table'))
  for (const [text, , , , , , , shown] of rows) {
    const key = text!.replaceAll('␣', ' ')
    const [a, b] = [first.get(key), second.get(key)]
    if (a !== undefined && b !== undefined && key !== '⏎')
      t.equal(shown, (b - a).toFixed(2).replace('-', '−'), key)
  }
})
