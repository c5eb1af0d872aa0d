/** The scale of a text's colours, and its key. */
import { element } from '../../page/dom.js'
import type { SampleText } from './data.js'
import { decimal } from './format.js'

/** FFN experts per layer: the least have no colour, the most have full colour. */
export interface Scale {
  readonly least: number
  readonly most: number
}

/** The share of tokens beyond each end of a scale of means. */
const BEYOND = 0.01
/** A narrower scale would make much of little. */
const NARROWEST = 0.05

/** The scale of tokens' means over layers: one for all texts, so that they can be compared. */
export function scaleOf(samples: readonly SampleText[]): Scale {
  const ends = samples.map(sample => {
    const means = Float64Array.from({ length: sample.length }, (_, i) => sample.meanFfnExperts(i))
    means.sort()
    const beyond = Math.floor(means.length * BEYOND)
    return { least: means[beyond] ?? 0, most: means[means.length - 1 - beyond] ?? 0 }
  })
  const least = Math.min(...ends.map(end => end.least))
  const most = Math.max(...ends.map(end => end.most))
  if (most - least >= NARROWEST) return { least, most }
  return { least: 0, most: Math.max(...samples.map(sample => sample.most)) }
}

/** 0 to 1: 0 has most colour. */
export const shadeOf = ({ least, most }: Scale, value: number): number =>
  Math.min(Math.max((most - value) / (most - least), 0), 1)

/** The key of the colours. */
export class ScaleKey {
  readonly element: HTMLElement
  readonly #least = element('span')
  readonly #most = element('span')

  constructor(hasWindows: boolean) {
    this.element = element(
      'p',
      { class: 'scale' },
      this.#least,
      element('span', { class: 'ramp' }),
      this.#most,
      ...(hasWindows ? [element('span', { class: 'window' }, 'a window begins')] : []),
      element('span', { class: 'tap' }, 'Tap a token to see its path.'),
    )
  }

  /** The scale of one layer, or of means over all. */
  show({ least, most }: Scale, layer: number | undefined): void {
    const of = layer === undefined ? 'Mean FFN experts per layer' : `FFN experts in layer ${layer}`
    const number = (value: number) => decimal(value, Number.isInteger(value) ? 0 : 2)
    this.#least.textContent = `${of}: ${least > 0 ? '≤ ' : ''}${number(least)}`
    this.#most.textContent = `${layer === undefined ? '≥ ' : ''}${number(most)}`
  }
}
