/** The colours of tokens: by probability, by FFN experts, or none. */
import { byId } from '../../page/dom.js'
import type { Shade } from '../../page/token-view.js'
import { ffnExpertsOf, type Piece, probabilityOf } from './pieces.js'

export interface Colours {
  readonly shade: Shade<Piece>
  /** The experts that a token of the model picks; undefined: the server tells none. */
  setMost(expertsPerToken: number | undefined): void
}

/** The choice and its legend. `onChange`: shades are other ones now. */
export function coloursOf(turns: HTMLElement, onChange: () => void): Colours {
  const choice = byId('colours', HTMLSelectElement)
  const option = choice.querySelector<HTMLOptionElement>('[value="experts"]')!
  let most = 1

  const show = () => {
    const isExperts = choice.value === 'experts'
    turns.classList.toggle('is-coloured', choice.value !== 'nothing')
    byId('scale', HTMLElement).hidden = choice.value === 'nothing'
    byId('most', HTMLElement).textContent = isExperts ? `${most} FFN experts` : 'unlikely'
    byId('least', HTMLElement).textContent = isExperts ? '0' : 'certain'
    byId('experts-hint', HTMLElement).hidden = !isExperts
    onChange()
  }
  choice.addEventListener('change', show)
  return {
    shade: piece => {
      if (choice.value !== 'experts') return probabilityOf(piece)
      const experts = ffnExpertsOf(piece)
      return experts === undefined ? undefined : Math.max(0, 1 - experts / most)
    },
    setMost: expertsPerToken => {
      option.disabled = expertsPerToken === undefined
      if (option.disabled && option.selected) choice.value = 'probability'
      most = expertsPerToken ?? 1
      show()
    },
  }
}
