// The README's picture of speed: docs/speed.svg, drawn from the figures in speed.json, which stand
// in README.md as well.
//
//   node bench/speed-plot.mjs
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { recordShapes } from '../dist/families/record.js'
import { describeModel } from '../dist/families/registry.js'
import { operationsOfPrefill } from '../dist/program/model-spec.js'
import { config, makeup, SHAPES } from './synthetic-shapes.mjs'

const WIDTH = 760
const LEFT = 170
const RIGHT = 20
const TOP = 62
const BAR = 18
const GROUP = 3 * BAR + 22
/** The share of the ceiling at the right edge. */
const MOST = 1.1

/** The picture reads on a light page and on a dark one: its background is the page's. */
const STYLE = `
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.small { font-size: 12px; fill: #59636e }
.name { font-weight: 600 }
.llama { fill: #9aa4af }
.vanilla { fill: #6aa5e8 }
.moepp { fill: #1664c0 }
.ceiling { stroke: #d0711c; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc }
.small { fill: #9198a1 }
.llama { fill: #6e7681 }
.vanilla { fill: #2f6db5 }
.moepp { fill: #58a6ff }
.ceiling { stroke: #f0a35e }
}`

/** Tokens/s that 10^9 operations a second allow: with so many FFN experts per token. */
function ideal({ tokens }, layers, ffnExperts, gops) {
  const shape = makeup({ ...SHAPES['7b'], layers }, {})
  const spec = recordShapes(describeModel(config(shape), '7b'))
  const picks = tokens * layers * ffnExperts
  return (tokens * gops * 1e9) / operationsOfPrefill(spec, tokens, { picks }, 1)
}

/** Tokens/s of each bar, and its ceiling. */
export function bars(data, row) {
  const { layers, llamaCpp } = row
  const { vanilla, moepp } = data.ffnExpertsPerToken
  const bar = (kind, rate, experts, instruction) => {
    return { kind, rate, ceiling: ideal(data, layers, experts, data.ceilings[instruction]) }
  }
  return [
    bar('llama', llamaCpp, vanilla, row.llamaCppCeiling),
    bar('vanilla', llamaCpp * row.vanilla, vanilla, row.ceiling),
    bar('moepp', llamaCpp * row.moepp, moepp, row.ceiling),
  ]
}

const text = (x, y, content, attributes = '') =>
  `<text x="${x}" y="${y}"${attributes && ` ${attributes}`}>${content}</text>`

function legend() {
  const entries = [
    ['llama', 'llama.cpp, vanilla model', 0],
    ['vanilla', 'moepp, the same vanilla model', 190],
    ['moepp', 'moepp, MoE++', 410],
  ]
  const boxes = entries.map(
    ([kind, label, x]) =>
      `<rect class="${kind}" x="${x}" y="33" width="12" height="12"/>${text(x + 18, 44, label, 'class="small"')}`,
  )
  const line = '<line class="ceiling" x1="540" x2="540" y1="32" y2="46"/>'
  return [...boxes, line, text(548, 44, 'ceiling: the instruction’s peak rate', 'class="small"')]
}

/** A group has a scale of its own: its MoE++ ceiling has the same place in each. */
function group(data, row, top) {
  const all = bars(data, row)
  const full = all.at(-1).ceiling * MOST
  const x = rate => LEFT + ((WIDTH - LEFT - RIGHT) * rate) / full
  const drawn = all.map(({ kind, rate, ceiling }, i) => {
    const y = top + i * BAR
    const at = x(ceiling).toFixed(1)
    const mark =
      ceiling <= full
        ? `<line class="ceiling" x1="${at}" x2="${at}" y1="${y}" y2="${y + BAR - 2}"/>`
        : ''
    return [
      `<rect class="${kind}" x="${LEFT}" y="${y}" width="${(x(rate) - LEFT).toFixed(1)}" height="${BAR - 2}"/>`,
      text(
        (x(rate) + 6).toFixed(1),
        y + 13,
        kind === 'llama' ? rate : Number(rate.toPrecision(2)),
        'class="small"',
      ),
      mark,
    ].join('')
  })
  return [
    text(0, top + 14, row.name, 'class="name"'),
    text(0, top + 32, `${row.layers} layers`, 'class="small"'),
    ...drawn,
  ]
}

export function plot(data) {
  const height = TOP + data.rows.length * GROUP + 4
  const body = [
    text(0, 16, data.title, 'class="name"'),
    text(WIDTH, 16, data.machine, 'class="small" text-anchor="end"'),
    ...legend(),
    ...data.rows.flatMap((row, i) => group(data, row, TOP + i * GROUP)),
  ]
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img">
<title>${data.title}. ${data.machine}</title>
<style>${STYLE}
</style>
${body.join('\n')}
</svg>
`
}

const here = fileURLToPath(new URL('.', import.meta.url))
export const picture = join(here, '..', 'docs', 'speed.svg')
export const readData = () => JSON.parse(readFileSync(join(here, 'speed.json'), 'utf8'))

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(picture, plot(readData()))
