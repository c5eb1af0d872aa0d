/** The texts of all subjects: one of them, or two side by side. */
import { element } from '../../page/dom.js'
import type { Named } from './charts/chart.js'
import type { SampleText } from './data.js'
import { count } from './format.js'
import { type Scale, scaleOf } from './scale.js'
import { TextPane } from './text-pane.js'

interface Text {
  readonly name: string
  /** All tokens of the text, whatever the page has of them. */
  readonly tokens: number
  readonly sample: SampleText
}

export function texts(
  subjects: readonly Named[],
  samples: readonly (SampleText | undefined)[],
): HTMLElement {
  const known = subjects.flatMap(({ name, subject: { tokens } }, i): Text[] => {
    const sample = samples[i]
    return sample && sample.length > 0 ? [{ name, tokens, sample }] : []
  })
  const [first] = known
  if (first === undefined)
    return element('p', { class: 'note' }, 'The report was written without its text.')
  const means = scaleOf(known.map(({ sample }) => sample))
  if (known.length > 1) return chooser(known, means)
  return element('div', {}, ...withNote(first, new TextPane(first.sample, means, 'text-1')))
}

/** A pane, after a note on the tokens that the page does not have. */
function withNote({ tokens, sample }: Text, pane: TextPane): HTMLElement[] {
  const parts: string[] = []
  if (sample.length < tokens)
    parts.push(`The first ${count(sample.length)} of ${count(tokens)} tokens are shown.`)
  if (sample.pathTokens < sample.length)
    parts.push(`Paths are known of the first ${count(sample.pathTokens)} tokens.`)
  const note = element('p', { class: 'hint' }, parts.join(' '))
  return parts.length > 0 ? [note, pane.element] : [pane.element]
}

function chooser(known: readonly Text[], means: Scale): HTMLElement {
  const panes: (TextPane | undefined)[] = [undefined, undefined]
  const boxes = [0, 1].map(() => element('div', { class: 'chosen-text' }))
  const selects = ['Text of', 'Beside it'].map((label, side) => {
    const select = element('select', { 'aria-label': label })
    if (side === 1) select.append(element('option', { value: '-1' }, 'no other text'))
    known.forEach(({ name }, i) => {
      select.append(element('option', { value: String(i) }, name))
    })
    select.addEventListener('change', () => show(side, Number(select.value)))
    return select
  })
  function show(side: number, i: number): void {
    const text = known[i]
    panes[side] = undefined
    boxes[side]!.hidden = text === undefined
    boxes[side]!.replaceChildren()
    if (text === undefined) return
    const pane = new TextPane(text.sample, means, `text-${side + 1}`)
    // Both turn together, so that the same page is seen of both.
    pane.onTurn = first => panes[1 - side]?.showFrom(first)
    panes[side] = pane
    boxes[side]!.append(element('h3', {}, text.name), ...withNote(text, pane))
  }
  show(0, 0)
  show(1, -1)
  const [one, other] = selects as [HTMLSelectElement, HTMLSelectElement]
  return element(
    'div',
    {},
    element(
      'div',
      { class: 'controls' },
      element('label', { class: 'row' }, 'Text of ', one),
      element('label', { class: 'row second' }, 'beside it ', other),
    ),
    element('div', { class: 'texts' }, ...boxes),
  )
}
