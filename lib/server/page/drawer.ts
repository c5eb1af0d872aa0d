/** The settings as a drawer, where the window is narrow. */
import { byId } from '../../page/dom.js'

/** A function that opens the drawer, if the settings are one now. */
export function settingsDrawer(): () => void {
  const panel = byId('settings', HTMLElement)
  const opener = byId('open-settings', HTMLButtonElement)
  const closer = byId('close-settings', HTMLButtonElement)
  const shade = byId('shade', HTMLElement)
  const narrow = matchMedia('(max-width: 48rem)')
  const behind = [...document.querySelectorAll<HTMLElement>('.skip, .bar, main')]

  const set = (isOpen: boolean) => {
    panel.classList.toggle('is-open', isOpen)
    opener.ariaExpanded = String(isOpen)
    shade.hidden = !isOpen
    for (const each of behind) each.inert = isOpen
  }
  const open = () => {
    if (!narrow.matches) return
    set(true)
    closer.focus()
  }
  const close = () => {
    set(false)
    opener.focus()
  }
  opener.addEventListener('click', open)
  closer.addEventListener('click', close)
  shade.addEventListener('click', close)
  narrow.addEventListener('change', () => set(false))
  panel.addEventListener('keydown', event => {
    if (event.key !== 'Escape' || !panel.classList.contains('is-open')) return
    // Elsewhere it stops the answer.
    event.stopPropagation()
    close()
  })
  return open
}
