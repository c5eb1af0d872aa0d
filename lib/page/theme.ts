/** Light or dark: as the system has it, until the button is pressed. */

const KEY = 'moepp-theme'
const dark = matchMedia('(prefers-color-scheme: dark)')

export function themeButton(button: HTMLButtonElement): void {
  const apply = () => {
    const kept = localStorage.getItem(KEY)
    if (kept !== null) document.documentElement.dataset.theme = kept
    button.ariaPressed = String(kept === null ? dark.matches : kept === 'dark')
  }
  button.addEventListener('click', () => {
    localStorage.setItem(KEY, button.ariaPressed === 'true' ? 'light' : 'dark')
    apply()
  })
  dark.addEventListener('change', apply)
  apply()
}
