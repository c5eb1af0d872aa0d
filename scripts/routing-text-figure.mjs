// A text as a figure: each token on a ground that is stronger where it takes more FFN experts.

const FONT_SIZE = 13
/** Pixels of a character: lines are stretched to it, whatever the reader's font. */
const CHARACTER = 7.8
const LINE = 24
/** Of the key, above the text. */
const KEY = 34
const LINES = 18
/** The share of colour that the dearest tokens have, as on the page. */
const STRONGEST = 0.65
/** The share of tokens beyond each end of the scale, as on the page. */
const BEYOND = 0.01

/** `tokens` have `text` and `ffnExperts`; as many are drawn as have room in `LINES` lines. */
export function textFigure(document, tokens, width) {
  const make = (tag, attributes, ...children) => {
    const made = document.createElementNS('http://www.w3.org/2000/svg', tag)
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value)
    made.append(...children)
    return made
  }
  const sorted = tokens.map(({ ffnExperts }) => ffnExperts).sort((a, b) => a - b)
  const beyond = Math.floor(sorted.length * BEYOND)
  const [least, most] = [sorted[beyond], sorted.at(-1 - beyond)]
  const opacity = value =>
    (STRONGEST * Math.min(Math.max((value - least) / (most - least), 0), 1)).toFixed(2)
  const lines = linesOf(tokens, Math.floor(width / CHARACTER))
  const svg = make('svg', {
    ...{ width, height: KEY + lines.length * LINE, 'font-size': FONT_SIZE },
    'aria-label': 'Tokens by the mean of their FFN experts over layers',
  })
  const label = (x, text, anchor) =>
    make('text', { x, y: 13, 'text-anchor': anchor, fill: 'var(--text)' }, text)
  svg.append(label(0, 'FFN experts, mean of layers:', 'start'))
  for (let step = 0; step <= 4; step++) {
    const value = least + ((most - least) * step) / 4
    const x = 200 + step * 84
    const box = { x, y: 1, width: 20, height: 18, rx: 2, stroke: 'var(--edge)' }
    svg.append(
      make('rect', { ...box, fill: 'var(--tint)', 'fill-opacity': opacity(value) }),
      label(x + 26, `${['≤ ', '', '', '', '≥ '][step]}${value.toFixed(2)}`, 'start'),
    )
  }
  lines.forEach((parts, at) => {
    const top = KEY + at * LINE
    let column = 0
    for (const { text, ffnExperts } of parts) {
      const place = { x: +(column * CHARACTER).toFixed(1), y: top + 1 }
      const size = { width: +(text.length * CHARACTER - 1).toFixed(1), height: LINE - 4, rx: 2 }
      const fill = { fill: 'var(--tint)', 'fill-opacity': opacity(ffnExperts) }
      if (opacity(ffnExperts) > 0) svg.append(make('rect', { ...place, ...size, ...fill }))
      column += text.length
    }
    const text = parts.map(({ text }) => text).join('')
    const shape = { y: top + 15, textLength: +(column * CHARACTER).toFixed(1) }
    const font = 'ui-monospace, Menlo, Consolas, monospace'
    svg.append(
      make(
        'text',
        { x: 0, ...shape, 'font-family': font, fill: 'var(--text)', 'xml:space': 'preserve' },
        text,
      ),
    )
  })
  return svg
}

/** Tokens in lines: a word is not broken, a line end ends one. */
function linesOf(tokens, columns) {
  const lines = [[]]
  let used = 0
  const begin = () => {
    lines.push([])
    used = 0
  }
  for (const word of wordsOf(tokens)) {
    const length = word.reduce((sum, { text }) => sum + text.length, 0)
    if (used > 0 && used + length > columns) begin()
    lines.at(-1).push(...word)
    used += length
    if (lines.length > LINES) return lines.slice(0, LINES)
    if (word.at(-1).ends) begin()
  }
  return lines.filter(line => line.length > 0)
}

/** Runs of tokens: each begins with a space, or after a line end. */
function wordsOf(tokens) {
  const words = []
  let ends = true
  for (const token of tokens) {
    const text = token.text.replace(/\n/g, '')
    if (ends || /^\s/.test(token.text)) words.push([])
    ends = token.text.includes('\n')
    words.at(-1).push({ ...token, text, ends })
  }
  return words
}
