// Draws the figures of docs/routing.md: the bundled model on its held-out text, as SVG files that
// are light or dark as their reader is.
//
//   node scripts/routing-figures.mjs [FOLDER]     default docs/routing; needs `npm run build`
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { build } from 'esbuild'
import { parseHTML } from 'linkedom'
import { root } from './build-native.mjs'
import { surveyed } from './routing-survey.mjs'
import { textFigure } from './routing-text-figure.mjs'

const source = join(root, 'lib', 'routing', 'page')
const WIDTH = 720
const PADDING = 16

/** The charts that are drawn, by their files. */
const CHARTS = {
  picks: 'Picks by kind of expert',
  tokens: 'Tokens by their FFN experts',
  loads: 'Load of each expert',
  variance: 'Variance of routing scores',
  places: 'FFN experts by place in the word',
}

/** The page's charts, as a module for Node. */
async function charts() {
  const { outputFiles } = await build({
    entryPoints: [join(source, 'charts', 'index.ts')],
    bundle: true,
    format: 'esm',
    platform: 'node',
    tsconfigRaw: {},
    write: false,
  })
  return import(
    `data:text/javascript;base64,${Buffer.from(outputFiles[0].contents).toString('base64')}`
  )
}

/** The variables of the page's style sheets: light ones, and dark ones in their media query. */
function colours() {
  const css = ['../../page/styles/base.css', 'styles/colours.css']
    .map(file => readFileSync(join(source, file), 'utf8'))
    .join('\n')
  const pairs = [...css.matchAll(/(--[\w-]+): light-dark\((#\w+), (#\w+)\)/g)]
  const rule = side =>
    `svg{color:var(--text);${pairs.map(pair => `${pair[1]}:${pair[side]}`).join(';')}}`
  return `${rule(2)}@media(prefers-color-scheme:dark){${rule(3)}}text{white-space:pre}`
}

/** A drawing in a frame of its own: readers need not have the ground that its colours suit. */
function framed(document, drawing, ...definitions) {
  const make = (tag, attributes) => {
    const made = document.createElementNS('http://www.w3.org/2000/svg', tag)
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value)
    return made
  }
  const width = Number(drawing.getAttribute('width')) + 2 * PADDING
  const height = Number(drawing.getAttribute('height')) + 2 * PADDING
  const svg = make('svg', {
    ...{ xmlns: 'http://www.w3.org/2000/svg', viewBox: `0 0 ${width} ${height}`, width, height },
    ...{ role: 'img', 'aria-label': drawing.getAttribute('aria-label') },
    'font-family': 'system-ui, sans-serif',
  })
  const style = make('style', {})
  style.textContent = colours()
  const ground = { ...{ x: 0.5, y: 0.5, width: width - 1, height: height - 1, rx: 6 } }
  drawing.setAttribute('x', PADDING)
  drawing.setAttribute('y', PADDING)
  for (const name of ['role', 'aria-label']) drawing.removeAttribute(name)
  drawing.setAttribute('aria-hidden', 'true')
  svg.append(
    style,
    ...definitions,
    make('rect', { ...ground, fill: 'var(--surface)', stroke: 'var(--line)' }),
    drawing,
  )
  return `${svg}\n`
}

const [, , folder = join(root, 'docs', 'routing')] = process.argv
const { allCharts, patterns } = await charts()
const { report, tokens } = surveyed()
const { document } = parseHTML('<html><body></body></html>')
mkdirSync(folder, { recursive: true })
const write = (name, svg) => {
  writeFileSync(join(folder, `${name}.svg`), svg)
  console.log(join(folder, `${name}.svg`))
}
const all = allCharts(report.subjects)
for (const [name, title] of Object.entries(CHARTS)) {
  const chart = all.find(chart => chart.title === title)
  if (chart === undefined) throw new Error(`no chart is called ${title}`)
  write(name, framed(document, chart.draw({ document, width: WIDTH }), patterns(document)))
}
write('text', framed(document, textFigure(document, tokens, WIDTH)))
