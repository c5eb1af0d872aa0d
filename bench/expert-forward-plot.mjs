// The plot of expert-forward: one panel per model, measured, ideal and paper over tau; then the 7B
// curve over tokens. Plain SVG that reads on a light page and on a dark one.

const WIDTH = 320
const HEIGHT = 240
const MARGIN = { left: 52, right: 14, top: 30, bottom: 40 }
const COLOURS = { measured: '#1664c0', ideal: '#999999', paper: '#d0711c' }
const CURVE_COLOURS = ['#0b3d91', '#1664c0', '#3f9ad9', '#d0711c', '#a03c12']

/**
 * Gains span 15 to 500 %: the axis is logarithmic in the throughput ratio, so that equal factors
 * look equal.
 */
const LARGEST = 8
const SMALLEST = 0.8

function y(gain) {
  const ratio = Math.min(LARGEST, Math.max(SMALLEST, 1 + gain / 100))
  const share = Math.log(ratio / SMALLEST) / Math.log(LARGEST / SMALLEST)
  return HEIGHT - MARGIN.bottom - share * (HEIGHT - MARGIN.top - MARGIN.bottom)
}

function x(share) {
  return MARGIN.left + share * (WIDTH - MARGIN.left - MARGIN.right)
}

const text = (at, content, attributes = '') =>
  `<text x="${at[0]}" y="${at[1]}" ${attributes}>${content}</text>`

function axes(title, ticks, label) {
  const lines = [0, 25, 50, 100, 200, 400].map(gain => {
    const at = y(gain).toFixed(1)
    return `<line x1="${MARGIN.left}" x2="${WIDTH - MARGIN.right}" y1="${at}" y2="${at}" stroke="#8886"/>${text([MARGIN.left - 6, Number(at) + 4], `${gain} %`, 'text-anchor="end"')}`
  })
  const marks = ticks.map(([share, name]) =>
    text([x(share).toFixed(1), HEIGHT - MARGIN.bottom + 16], name, 'text-anchor="middle"'),
  )
  const heading = text([MARGIN.left, 18], title, 'font-weight="bold"')
  const below = text([x(0.5).toFixed(1), HEIGHT - 6], label, 'text-anchor="middle"')
  return [...lines, ...marks, heading, below].join('\n')
}

function line(points, colour, dash = '') {
  const known = points.filter(([, gain]) => gain !== undefined)
  const path = known.map(([share, gain]) => `${x(share).toFixed(1)},${y(gain).toFixed(1)}`)
  const dots = path.map(
    p => `<circle cx="${p.split(',')[0]}" cy="${p.split(',')[1]}" r="3" fill="${colour}"/>`,
  )
  return `<polyline points="${path.join(' ')}" fill="none" stroke="${colour}" stroke-width="2" ${dash}/>${dots.join('')}`
}

function legend(entries) {
  return entries
    .map(([name, colour], i) => {
      const at = WIDTH - MARGIN.right - 92
      const down = MARGIN.top + 14 * i + 4
      return `<rect x="${at}" y="${down - 8}" width="10" height="10" fill="${colour}"/>${text([at + 14, down + 1], name)}`
    })
    .join('')
}

function modelPanel(model, rows) {
  const places = rows.map((row, i) => [i / Math.max(1, rows.length - 1), row])
  const ticks = places.map(([share, row]) => [share, row.tau])
  const of = field => places.map(([share, row]) => [share, row[field]])
  return [
    axes(`${model}, ${rows[0].tokens} tokens`, ticks, 'tau'),
    line(of('ideal'), COLOURS.ideal, 'stroke-dasharray="4 3"'),
    line(of('paper'), COLOURS.paper),
    line(of('gain'), COLOURS.measured),
    legend(Object.entries(COLOURS)),
  ].join('\n')
}

function curvePanel(rows) {
  const tokens = [...new Set(rows.map(row => row.tokens))].sort((a, b) => a - b)
  const share = t => tokens.indexOf(t) / Math.max(1, tokens.length - 1)
  const taus = [...new Set(rows.map(row => row.tau))]
  const lines = taus.map((tau, i) => {
    const own = rows.filter(row => row.tau === tau).map(row => [share(row.tokens), row.gain])
    return line(own, CURVE_COLOURS[i % CURVE_COLOURS.length])
  })
  return [
    axes(
      '7b, measured over the tokens of a step',
      tokens.map(t => [share(t), t]),
      'tokens',
    ),
    ...lines,
    legend(taus.map((tau, i) => [`tau ${tau}`, CURVE_COLOURS[i % CURVE_COLOURS.length]])),
  ].join('\n')
}

/** The SVG of what expert-forward measured; one row of panels per device. */
export function plot({ machine, date, dtype, table, curve }) {
  const devices = [...new Set(table.map(row => row.device))]
  const grid = devices.map(device => {
    const own = table.filter(row => row.device === device)
    const models = [...new Set(own.map(row => row.model))]
    const tokens = own.at(-1).tokens
    const panels = models.map(model =>
      modelPanel(
        model,
        own.filter(row => row.model === model && row.tokens === tokens),
      ),
    )
    const ofDevice = curve.filter(row => row.device === device)
    return ofDevice.length > 0 ? [...panels, curvePanel(ofDevice)] : panels
  })
  const columns = Math.max(...grid.map(row => row.length))
  const rowHeight = HEIGHT + 22
  const body = grid.map((row, r) => {
    const heading = text(
      [8, r * rowHeight + 36],
      `${devices[r]}`,
      'font-weight="bold" font-size="13"',
    )
    const panels = row.map(
      (panel, c) => `<g transform="translate(${c * WIDTH},${r * rowHeight + 42})">${panel}</g>`,
    )
    return heading + panels.join('\n')
  })
  const title = `Expert forward throughput of MoE++ over vanilla top-2 MoE, ${dtype}. ${machine}. ${date}`
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${columns * WIDTH}" height="${grid.length * rowHeight + 48}" font-family="sans-serif" font-size="11">
<title>${title}</title>
<style>text { fill: #1f2328 } @media (prefers-color-scheme: dark) { text { fill: #f0f6fc } }</style>
${text([8, 18], title, 'font-size="14"')}
${body.join('\n')}
</svg>
`
}
