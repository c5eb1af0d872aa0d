/** The likeliest tokens at a place, and the FFN experts of the chosen. */
import { element } from '../../page/dom.js'
import { type Choice, type Piece, percent, type Score, visible } from './pieces.js'

/** The scores of a piece's tokens, as elements. */
export function likeliest({ scores }: Piece): HTMLElement[] {
  return scores.flatMap(score => {
    const { token, logprob, top, ffnExperts } = score
    const chosen = element(
      'p',
      { class: 'chosen' },
      element('code', {}, visible(token)),
      ` ${percent(Math.exp(logprob))}, logprob ${logprob.toFixed(3)}`,
      ffnExperts === undefined ? '' : `, ${ffnExperts.toFixed(2)} FFN experts`,
    )
    return top.length === 0 ? [chosen] : [chosen, choices(top, score)]
  })
}

function choices(top: readonly Choice[], { token }: Score): HTMLElement {
  const rows = top.map(choice => {
    const share = Math.exp(choice.logprob)
    const row = element(
      'li',
      choice.token === token ? { class: 'is-chosen' } : {},
      element('code', {}, visible(choice.token)),
      element('span', {}, percent(share)),
    )
    row.style.setProperty('--share', share.toFixed(4))
    return row
  })
  return element('ol', {}, ...rows)
}
