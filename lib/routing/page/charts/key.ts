/** The meaning of a chart's colours and patterns. */
import type { ExpertKind } from '../../../program/expert-kinds.js'

const SVG = 'http://www.w3.org/2000/svg'

export interface KeyEntry {
  readonly label: string
  /** A CSS colour, or a pattern. */
  readonly fill: string
  /** A line instead of a box: its dashes, '' for none. */
  readonly dash?: string
}

const SWATCH = 14
/** Pixels of a character, on the average. */
const CHARACTER = 6.6

/** An element with attributes, of SVG. */
export function svgElement(
  document: Document,
  tag: string,
  attributes: Readonly<Record<string, string | number>>,
  ...children: (Node | string)[]
): SVGElement {
  const made = document.createElementNS(SVG, tag) as SVGElement
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value))
  made.append(...children)
  return made
}

/** The key, and how many rows it takes. */
export function keyOf(document: Document, entries: readonly KeyEntry[], width: number) {
  const group = svgElement(document, 'g', { 'text-anchor': 'start' })
  let [x, row] = [1, 0]
  for (const { label, fill, dash } of entries) {
    const size = SWATCH + 6 + label.length * CHARACTER + 18
    if (x > 1 && x + size > width) [x, row] = [1, row + 1]
    const y = row * 20 + 1
    group.append(
      dash === undefined
        ? svgElement(document, 'rect', {
            ...{ x, y, width: SWATCH, height: SWATCH, fill },
            stroke: 'var(--edge)',
          })
        : svgElement(document, 'line', {
            ...{ x1: x, x2: x + SWATCH, y1: y + 7, y2: y + 7, stroke: fill },
            ...{ 'stroke-width': 2.5, 'stroke-dasharray': dash },
          }),
      svgElement(document, 'text', { x: x + SWATCH + 6, y: y + 11.5 }, label),
    )
    x += size
  }
  return { element: group, rows: row + 1 }
}

/** The fill of a kind of expert: each has a pattern of its own. */
export const KIND_FILLS: Readonly<Record<ExpertKind, string>> = {
  ffn: 'var(--ffn)',
  constant: 'url(#fill-constant)',
  copy: 'url(#fill-copy)',
  zero: 'url(#fill-zero)',
}

const PATTERN = { width: 6, height: 6, patternUnits: 'userSpaceOnUse' }

/** The patterns. A document needs them once. */
export function patterns(document: Document): SVGElement {
  const make = (tag: string, attributes: Record<string, string | number>) =>
    svgElement(document, tag, attributes)
  const pattern = (id: string, turn: number, ...marks: SVGElement[]) =>
    svgElement(
      document,
      'pattern',
      { id, ...PATTERN, patternTransform: `rotate(${turn})` },
      make('rect', { width: 6, height: 6, fill: 'var(--surface)' }),
      ...marks,
    )
  return svgElement(
    document,
    'defs',
    {},
    pattern(
      'fill-constant',
      45,
      make('rect', { width: 6, height: 6, fill: 'var(--constant)', opacity: 0.35 }),
      make('rect', { width: 3, height: 6, fill: 'var(--constant)' }),
    ),
    pattern(
      'fill-copy',
      0,
      make('rect', { width: 6, height: 6, fill: 'var(--copy)', opacity: 0.3 }),
      make('circle', { cx: 3, cy: 3, r: 1.7, fill: 'var(--copy)' }),
    ),
    pattern(
      'fill-zero',
      0,
      make('rect', { width: 6, height: 6, fill: 'var(--zero)', opacity: 0.12 }),
      make('rect', { width: 6, height: 1.2, fill: 'var(--zero)' }),
    ),
  )
}
