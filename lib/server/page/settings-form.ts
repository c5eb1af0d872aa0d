/** The settings, read from the form. */
import { NUMBERS, type Settings, stopStrings } from './requests.js'

/** @returns undefined for a form with a wrong value; the browser then says so at the field. */
export function settingsOf(form: HTMLFormElement): Settings | undefined {
  if (!form.reportValidity()) return undefined
  const data = new FormData(form)
  const text = (name: string) => String(data.get(name) ?? '')
  const number = (name: string) => (text(name) === '' ? undefined : Number(text(name)))
  return {
    ...Object.fromEntries(NUMBERS.map(name => [name, number(name)])),
    maxTokens: number('max_tokens'),
    stop: stopStrings(text('stop')),
    system: text('system'),
    probabilities: data.has('probabilities'),
    experts: text('colours') === 'experts',
  }
}
