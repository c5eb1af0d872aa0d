// Draws the charts of a routing report as SVG files, which are light or dark as their reader is.
//
//   node scripts/routing-figures.mjs REPORT.json FOLDER [WIDTH]     a file for each chart
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { build } from 'esbuild'
import { parseHTML } from 'linkedom'
import { root } from './build-native.mjs'

const source = join(root, 'lib', 'routing', 'page')

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

const [, , report, folder, width = '640'] = process.argv
if (folder === undefined) {
  console.error('usage: node scripts/routing-figures.mjs REPORT.json FOLDER [WIDTH]')
  process.exit(2)
}
const { allCharts, patterns } = await charts()
const { document } = parseHTML('<html><body></body></html>')
mkdirSync(folder, { recursive: true })
for (const chart of allCharts(JSON.parse(readFileSync(report, 'utf8')).subjects)) {
  const svg = chart.draw({ document, width: Number(width) })
  svg.setAttribute('xmlns', 'http://www.w3.org/2000/svg')
  const style = document.createElementNS('http://www.w3.org/2000/svg', 'style')
  style.textContent = colours()
  svg.prepend(style, patterns(document))
  const name = chart.title.toLowerCase().replace(/[^a-z]+/g, '-')
  writeFileSync(join(folder, `${name}.svg`), `${svg}\n`)
  console.log(join(folder, `${name}.svg`))
}
