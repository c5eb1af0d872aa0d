/** Details of a token, shown beside it. */
import type { ShowDetails } from './token-view.js'

type Shown<Piece> = NonNullable<Parameters<ShowDetails<Piece>>[0]>

/** Milliseconds that details stay when the pointer leaves, so that it can move onto them. */
const GRACE_MS = 150
/** Pixels between a token and its details, and from them to the window's edge. */
const GAP = 6

/** A function that shows the `contents` of a piece in `box`. Escape hides them. */
export function detailsIn<Piece>(
  box: HTMLElement,
  contents: (piece: Piece) => readonly HTMLElement[],
): ShowDetails<Piece> {
  let shown: HTMLElement | undefined
  let leaving: ReturnType<typeof setTimeout> | undefined
  const hide = () => {
    clearTimeout(leaving)
    box.hidden = true
    shown?.classList.remove('is-shown')
    shown?.removeAttribute('aria-describedby')
    shown = undefined
  }
  document.addEventListener('keydown', ({ key }) => {
    if (key === 'Escape') hide()
  })
  const leave = () => {
    clearTimeout(leaving)
    leaving = setTimeout(hide, GRACE_MS)
  }
  box.addEventListener('pointerenter', () => clearTimeout(leaving))
  box.addEventListener('pointerleave', leave)
  const follow = () => {
    if (shown !== undefined) place(box, shown)
  }
  document.addEventListener('scroll', follow, { capture: true, passive: true })
  const fill = ({ at, piece }: Shown<Piece>) => {
    box.replaceChildren(...contents(piece))
    place(box, at)
  }
  return token => {
    if (token === undefined) return leave()
    if (token.hasChanged) {
      if (token.at === shown) fill(token)
      return
    }
    hide()
    shown = token.at
    shown.classList.add('is-shown')
    shown.setAttribute('aria-describedby', box.id)
    box.hidden = false
    fill(token)
  }
}

/** Below the token, or above it where there is no room; within the window. */
function place(box: HTMLElement, token: HTMLElement): void {
  // A token that is broken over lines has several.
  const { left, top, bottom } = token.getClientRects()[0] ?? token.getBoundingClientRect()
  const { offsetWidth: width, offsetHeight: height } = box
  const isBelow = bottom + GAP + height <= innerHeight
  box.style.left = `${Math.max(GAP, Math.min(left, innerWidth - width - GAP))}px`
  box.style.top = `${Math.max(GAP, isBelow ? bottom + GAP : top - GAP - height)}px`
}
