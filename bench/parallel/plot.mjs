// The plot of simulate.mjs: panels over the number of ranks, a column for each phase. Plain SVG
// that reads on a light page and on a dark one.
const WIDTH = 380
const HEIGHT = 230
const MARGIN = { left: 58, right: 14, top: 46, bottom: 40 }

const STYLE = `
text { font: 11px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600 }
.grid { stroke: #8886 }
.line { fill: none; stroke-width: 2 }
.a { stroke: #1664c0; } .b { stroke: #d0711c } .c { stroke: #1a7f37 } .d { stroke: #8250df }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc }
.a { stroke: #58a6ff } .b { stroke: #f0a35e } .c { stroke: #3fb950 } .d { stroke: #bc8cff }
}`

const CLASSES = ['a', 'b', 'c', 'd']

const text = (x, y, content, attributes = '') =>
  `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}"${attributes && ` ${attributes}`}>${content}</text>`

/** Width of a letter, on average. */
const LETTER = 5.6

/** The least round number that is not below. */
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value))
  return [1, 2, 2.5, 5, 10].map(factor => factor * power).find(round => round >= value * 0.999)
}

/** @param lines `{ name, points: [ranks, value] }` each */
function panel({ title, unit, lines }) {
  const ranks = [...new Set(lines.flatMap(({ points }) => points.map(([x]) => x)))].sort(
    (a, b) => a - b,
  )
  const most = roundUp(Math.max(1e-9, ...lines.flatMap(({ points }) => points.map(([, y]) => y))))
  const x = rank =>
    MARGIN.left +
    ((WIDTH - MARGIN.left - MARGIN.right) * ranks.indexOf(rank)) / Math.max(1, ranks.length - 1)
  const y = value => HEIGHT - MARGIN.bottom - ((HEIGHT - MARGIN.top - MARGIN.bottom) * value) / most
  const grid = [0, 0.25, 0.5, 0.75, 1].map(share => {
    const at = y(share * most)
    const label = Number((share * most).toPrecision(3))
    return `<line class="grid" x1="${MARGIN.left}" x2="${WIDTH - MARGIN.right}" y1="${at.toFixed(1)}" y2="${at.toFixed(1)}"/>${text(MARGIN.left - 6, at + 4, label, 'text-anchor="end"')}`
  })
  const marks = ranks.map(rank =>
    text(x(rank), HEIGHT - MARGIN.bottom + 15, rank, 'text-anchor="middle"'),
  )
  const drawn = lines.map(({ points }, i) => {
    const path = points.map(([rank, value]) => `${x(rank).toFixed(1)},${y(value).toFixed(1)}`)
    return `<polyline class="line ${CLASSES[i]}" points="${path.join(' ')}"/>`
  })
  let next = MARGIN.left
  const legend = lines.map(({ name }, i) => {
    const [at, down] = [next, MARGIN.top - 14]
    next += 40 + LETTER * name.length
    return `<line class="line ${CLASSES[i]}" x1="${at}" x2="${at + 16}" y1="${down}" y2="${down}"/>${text(at + 21, down + 4, name)}`
  })
  return [
    text(MARGIN.left, 16, `${title}, ${unit}`, 'class="title"'),
    ...grid,
    ...marks,
    text((MARGIN.left + WIDTH - MARGIN.right) / 2, HEIGHT - 8, 'ranks', 'text-anchor="middle"'),
    ...drawn,
    ...legend,
  ].join('\n')
}

/** Points of the rows that have these fields. */
function line(rows, name, fields, value) {
  const own = rows.filter(row => Object.entries(fields).every(([key, is]) => row[key] === is))
  return { name, points: own.map(row => [row.ranks, value(row)]) }
}

function panelsOf(rows, phase, heading) {
  const own = rows.filter(row => row.phase === phase)
  const both = value => [
    line(own, 'MoE++', { model: 'model', placement: 'contiguous' }, value),
    line(own, 'vanilla', { model: 'twin' }, value),
  ]
  const placements = [
    line(own, 'contiguous', { model: 'model', placement: 'contiguous' }, row => row.imbalance),
    line(own, 'vanilla', { model: 'twin' }, row => row.imbalance),
    line(own, 'greedy', { model: 'model', placement: 'greedy' }, row => row.imbalance),
    line(own, 'copies', { model: 'model', placement: 'copies' }, row => row.imbalance),
  ]
  const efficient = row => 100 * (row.efficiency ?? 0)
  return [
    panel({ title: `${heading}: a step`, unit: 'ms', lines: both(row => 1000 * row.seconds) }),
    panel({ title: 'tokens/s of a rank', unit: '% of one alone', lines: both(efficient) }),
    panel({
      title: 'sent by a rank',
      unit: 'kB a step',
      lines: both(row => row.bytesOfRank / 1e3),
    }),
    panel({ title: 'rows of the busiest rank', unit: 'by the mean', lines: placements }),
  ]
}

export function plot({ title, machine, date, options, rows }) {
  const grid = [
    panelsOf(rows, 'decode', `decoding ${options.sequences} sequences a rank`),
    panelsOf(rows, 'prefill', `prefill of ${options.prompt} tokens a rank`),
  ]
  const network = `${options['latency-us']} us, ${options.gbit} Gbit/s`
  const heading = `${title}; simulated, a machine for each rank, ${network}`
  const source = `costs measured on ${machine}, ${date}`
  const body = grid.flatMap((panels, column) =>
    panels.map(
      (content, row) =>
        `<g transform="translate(${column * WIDTH},${row * HEIGHT + 40})">\n${content}\n</g>`,
    ),
  )
  const [width, height] = [grid.length * WIDTH, grid[0].length * HEIGHT + 44]
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img">
<title>${heading}; ${source}</title>
<style>${STYLE}
</style>
${text(8, 16, heading, 'class="title"')}
${text(8, 32, source)}
${body.join('\n')}
</svg>
`
}
