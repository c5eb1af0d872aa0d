/** The tokens of the vocabulary that the text has, as a table that sorts, filters and turns. */
import { element } from '../../page/dom.js'
import type { MeanInterval, VocabularyEntry } from '../types.js'
import type { Named } from './charts/chart.js'
import { OFTEN } from './facts.js'
import { count, decimal, symbols } from './format.js'
import { Pager } from './pager.js'
import { scrollBox } from './table.js'

/** Rows of a page. */
const ROWS = 50

/** Kinds of tokens by their texts. A space tells where words begin, in most tokenizers. */
const KINDS: Readonly<Record<string, (text: string) => boolean>> = {
  'all tokens': () => true,
  'words and beginnings: after a space': text => /^\s\p{L}/u.test(text),
  'fragments: no space before': text => /^\p{L}/u.test(text),
  'no letter at first': text => !/^\s?\p{L}/u.test(text),
}

/** A token in all subjects. */
interface Row {
  readonly text: string
  /** One for each subject; undefined where it does not occur. */
  readonly experts: readonly (MeanInterval | undefined)[]
}

interface Column {
  readonly label: string
  /** Texts sort upwards at first, numbers downwards. */
  readonly key: (row: Row) => number | string
  readonly cell: (row: Row) => string
  /** 0 to 1, drawn as a bar behind the number. */
  readonly share?: (row: Row) => number
}

/** Rows of all subjects' vocabularies, in the order of the first one. */
export function joined(vocabularies: readonly (readonly VocabularyEntry[])[]): Row[] {
  const rows = new Map<string, { text: string; experts: (MeanInterval | undefined)[] }>()
  vocabularies.forEach((entries, subject) => {
    for (const { token, text, ffnExperts } of entries) {
      // Models may number their tokens differently. One may have two tokens of the same text.
      const key = rows.get(text)?.experts[subject] === undefined ? text : `${text} ${token}`
      const row = rows.get(key) ?? { text, experts: vocabularies.map(() => undefined) }
      row.experts[subject] = ffnExperts
      rows.set(key, row)
    }
  })
  return [...rows.values()]
}

function columnsOf(subjects: readonly Named[]): Column[] {
  const label = (text: string, name: string) => (subjects.length > 1 ? `${text}, ${name}` : text)
  const columns = subjects.flatMap(({ name, subject }, i): Column[] => {
    const most = subject.layers.reduce((most, { topK }) => Math.max(most, topK), 1)
    return [
      {
        label: label('Count', name),
        key: ({ experts }) => experts[i]?.count ?? 0,
        cell: ({ experts }) => count(experts[i]?.count ?? 0),
      },
      {
        label: label('FFN experts', name),
        key: ({ experts }) => experts[i]?.mean ?? -1,
        cell: ({ experts }) => decimal(experts[i]?.mean),
        share: ({ experts }) => (experts[i]?.mean ?? 0) / most,
      },
      {
        label: label('± 95 %', name),
        key: ({ experts }) => experts[i]?.halfWidth ?? -1,
        cell: ({ experts }) => decimal(experts[i]?.halfWidth),
      },
    ]
  })
  if (subjects.length === 2) columns.push(difference())
  const text: Column = {
    label: 'Token',
    key: ({ text }) => text,
    cell: ({ text }) => symbols(text),
  }
  return [text, ...columns]
}

function difference(): Column {
  const of = ({ experts: [first, second] }: Row) =>
    first && second ? second.mean - first.mean : undefined
  return {
    label: 'Second − first',
    key: row => of(row) ?? Number.NEGATIVE_INFINITY,
    cell: row => decimal(of(row)),
  }
}

export function vocabulary(subjects: readonly Named[]): HTMLElement {
  return new Vocabulary(subjects).element
}

class Vocabulary {
  readonly element: HTMLElement
  readonly #rows: readonly Row[]
  readonly #columns: readonly Column[]
  readonly #filter = element('input', { type: 'search', autocomplete: 'off', spellcheck: 'false' })
  readonly #least = element('input', { type: 'number', min: '1', step: '1' })
  readonly #kind = element(
    'select',
    {},
    ...Object.keys(KINDS).map(name => element('option', {}, name)),
  )
  readonly #state = element('span', { class: 'hint', role: 'status' })
  readonly #heads: HTMLElement[]
  readonly #body = element('tbody')
  readonly #pager = new Pager('Pages of the vocabulary', page => this.#fill(page))
  #shown: readonly Row[] = []
  /** The column that sorts: by cost at first. */
  #sorted = 2
  #isFalling = true

  constructor(subjects: readonly Named[]) {
    this.#rows = joined(subjects.map(({ subject }) => subject.vocabulary))
    this.#columns = columnsOf(subjects)
    const often = this.#rows.filter(row => isAtLeast(row, OFTEN)).length
    this.#least.value = String(often >= ROWS ? OFTEN : 1)
    this.#heads = this.#columns.map(({ label }, at) => this.#head(label, at))
    for (const field of [this.#filter, this.#least, this.#kind])
      field.addEventListener('input', () => this.#choose())
    const head = element('thead', {}, element('tr', {}, ...this.#heads))
    this.element = element(
      'div',
      { class: subjects.length > 1 ? 'panel vocabulary is-wide' : 'panel vocabulary' },
      element(
        'div',
        { class: 'controls' },
        element('label', { class: 'row' }, 'Filter ', this.#filter),
        element('label', { class: 'row' }, 'Show ', this.#kind),
        element('label', { class: 'row' }, 'Count at least ', this.#least),
        this.#pager.element,
        this.#state,
      ),
      scrollBox('The vocabulary', element('table', {}, head, this.#body)),
    )
    this.#choose()
  }

  #head(label: string, at: number): HTMLElement {
    const button = element('button', { type: 'button', class: 'plain' }, label)
    button.addEventListener('click', () => {
      this.#isFalling = this.#sorted === at ? !this.#isFalling : at !== 0
      this.#sorted = at
      this.#choose()
    })
    return element('th', { scope: 'col' }, button)
  }

  /** Filters and sorts. */
  #choose(): void {
    const sought = this.#filter.value.toLowerCase()
    const least = this.#least.valueAsNumber || 1
    const isOfKind = KINDS[this.#kind.value]!
    const { key } = this.#columns[this.#sorted]!
    const sign = this.#isFalling ? -1 : 1
    this.#shown = this.#rows
      .filter(row => {
        const { text } = row
        if (!isOfKind(text) || !isAtLeast(row, least)) return false
        const shown = symbols(text).toLowerCase()
        return text.toLowerCase().includes(sought) || shown.includes(sought)
      })
      .sort((a, b) => sign * compare(key(a), key(b)))
    this.#heads.forEach((head, at) => {
      if (at === this.#sorted) head.ariaSort = this.#isFalling ? 'descending' : 'ascending'
      else head.removeAttribute('aria-sort')
    })
    this.#state.textContent = `${count(this.#shown.length)} of ${count(this.#rows.length)} different tokens`
    this.#fill(0)
  }

  #fill(page: number): void {
    this.#pager.show(page, Math.ceil(this.#shown.length / ROWS))
    const rows = this.#shown.slice(page * ROWS, (page + 1) * ROWS)
    this.#body.replaceChildren(...rows.map(row => this.#row(row)))
  }

  #row(row: Row): HTMLElement {
    const cells = this.#columns.map(({ cell, share }, at) => {
      if (at === 0) return element('th', { scope: 'row' }, element('code', {}, cell(row)))
      const made = element('td', share ? { class: 'bar-cell' } : {}, cell(row))
      if (share) made.style.setProperty('--share', share(row).toFixed(3))
      return made
    })
    return element('tr', {}, ...cells)
  }
}

function isAtLeast({ experts }: Row, least: number): boolean {
  return experts.some(interval => interval !== undefined && interval.count >= least)
}

function compare(a: number | string, b: number | string): number {
  if (a === b) return 0
  return a < b ? -1 : 1
}
