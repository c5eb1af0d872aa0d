/** A chart is data that draws itself, in a browser or where `document` stands in for one. */
import { axisX, type Markish, type PlotOptions, plot, text } from '@observablehq/plot'
import type { Subject } from '../../types.js'
import { namesOf } from '../format.js'
import { type KeyEntry, keyOf } from './key.js'

export interface ChartOptions {
  readonly document: Document
  /** Pixels. */
  readonly width: number
}

export interface Chart {
  readonly title: string
  /** A sentence that says how to read it. */
  readonly text: string
  /** Its numbers. */
  readonly table: Table
  readonly draw: (options: ChartOptions) => SVGElement
}

/** The first column names the row. */
export interface Table {
  readonly columns: readonly string[]
  readonly rows: readonly (readonly string[])[]
}

/** A subject with a name for people. */
export interface Named {
  readonly name: string
  readonly subject: Subject
}

export function named(subjects: readonly Subject[]): Named[] {
  const names = namesOf(subjects)
  return subjects.map((subject, i) => ({ name: names[i]!, subject }))
}

/** A table of all subjects: their names are a column where there are several. */
export function tableOf(
  columns: readonly string[],
  subjects: readonly Named[],
  rowsOf: (subject: Subject) => (readonly string[])[],
): Table {
  const isOne = subjects.length === 1
  return {
    columns: isOne ? columns : [...columns.slice(0, 1), 'Subject', ...columns.slice(1)],
    rows: subjects.flatMap(({ name, subject }) =>
      rowsOf(subject).map(([first = '', ...rest]) =>
        isOne ? [first, ...rest] : [first, name, ...rest],
      ),
    ),
  }
}

const FONT_SIZE = 12
const KEY_ROW = 20
/** Above the first facet, for its caption. */
const CAPTION = 28
/** Between facets: the caption, and room for the axis above it. */
const GAP = 40
/** Below the facets, for the axis and its label. */
const AXIS = 40

interface Frame {
  readonly title: string
  readonly key?: readonly KeyEntry[]
  /** Pixels of one facet. */
  readonly height: number
  /** Facets, one above the other. */
  readonly names: readonly string[]
  /** True: a facet is named even if it is alone. Default: not. */
  readonly isNamed?: boolean
  /** Of the numbers on the left. */
  readonly unit?: string
  readonly plot: PlotOptions
  readonly marks: readonly Markish[]
}

/** Draws facets and a key. The page's policy forbids the style that Plot would add. */
export function drawn({ document, width }: ChartOptions, frame: Frame): SVGElement {
  const { names, marks, height, unit } = frame
  const isMany = names.length > 1 || frame.isNamed === true
  const captions = isMany || unit !== undefined ? names : []
  const key = frame.key && keyOf(document, frame.key, width)
  const top = (key ? key.rows * KEY_ROW + 4 : 0) + (captions.length > 0 ? CAPTION : 4)
  const { marginLeft = 0, marginBottom = AXIS } = frame.plot
  const svg = plot({
    ...frame.plot,
    document,
    width,
    className: 'chart',
    marginTop: top,
    marginBottom,
    height: top + marginBottom + names.length * height + (names.length - 1) * GAP,
    fy: {
      ...{ domain: [...names], axis: null },
      // As a share of a facet and the space to the next one.
      paddingInner: names.length > 1 ? GAP / (height + GAP) : 0,
    },
    marks: [
      ...marks,
      text(captions, {
        fy: name => name,
        text: name => [isMany ? name : '', unit].filter(Boolean).join(': '),
        ...{ frameAnchor: 'top-left', dx: -marginLeft, dy: 3 - CAPTION },
        fontWeight: isMany ? 600 : 400,
      }),
    ],
  }) as SVGElement
  svg.querySelector('style')?.remove()
  // An image is one thing, with one name.
  for (const part of svg.querySelectorAll('[aria-label]')) part.removeAttribute('aria-label')
  svg.setAttribute('font-size', String(FONT_SIZE))
  svg.setAttribute('role', 'img')
  svg.setAttribute('aria-label', frame.title)
  if (key) svg.append(key.element)
  return svg
}

/** An axis of layers, or of experts, with as many numbers as have room. */
export function numberedAxis(numbers: readonly number[], width: number, label: string): Markish {
  const every = Math.ceil((numbers.length * 26) / Math.max(width - 60, 60))
  return axisX(
    numbers.filter((_, i) => i % every === 0),
    {
      label,
      labelAnchor: 'center',
      labelOffset: 34,
      labelArrow: 'none',
      tickSize: 0,
      tickFormat: String,
    },
  )
}

/** Numbers of the layers with experts of all subjects, in order. */
export function layersOf(subjects: readonly Named[]): number[] {
  return numbersOf(subjects.flatMap(({ subject }) => subject.layers))
}

/** Numbers of the layers that there are rows of, in order. */
export function numbersOf(rows: readonly { readonly layer: number }[]): number[] {
  return [...new Set(rows.map(({ layer }) => layer))].sort((a, b) => a - b)
}
