/** Numbers and texts as people read them. */
import type { ExpertKind } from '../../program/expert-kinds.js'
import { shortNames } from '../short-names.js'
import type { MeanInterval, Subject } from '../types.js'

export const KIND_NAMES: Readonly<Record<ExpertKind, string>> = {
  ffn: 'FFN',
  constant: 'constant',
  copy: 'copy',
  zero: 'zero',
}

/** A whole number with its thousands apart. */
export const count = (value: number): string => value.toLocaleString('en-US')

/** With so many decimals; a dash where there is no number. */
export function decimal(value: number | null | undefined, decimals = 2): string {
  return value === null || value === undefined || !Number.isFinite(value)
    ? '–'
    : value.toFixed(decimals).replace('-', '−')
}

export const percent = (share: number): string => `${decimal(share * 100, 1)} %`

export function interval({ mean, halfWidth }: MeanInterval): string {
  return `${decimal(mean, 3)} ± ${decimal(halfWidth, 3)}`
}

const PREFIXES = ['', 'k', 'M', 'G', 'T', 'P']

/** Three digits; all of a whole number that has more. */
function threeDigits(value: number): string {
  const rounded = Number(value.toPrecision(3))
  return rounded >= 1000 ? String(rounded) : value.toPrecision(3)
}

/** Three digits with a prefix: 12.3 M. */
export function large(value: number | null | undefined, unit = ''): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return '–'
  const rounded = Number(value.toPrecision(3))
  const power = Math.floor(Math.log10(Math.max(Math.abs(rounded), 1)) / 3)
  const at = Math.min(power, PREFIXES.length - 1)
  const shown = rounded / 1000 ** at
  return `${at === 0 ? shown : threeDigits(shown)} ${PREFIXES[at]}${unit}`.trimEnd()
}

/** Seconds in the unit that suits. */
export function seconds(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return '–'
  if (value >= 1) return `${threeDigits(value)} s`
  if (value >= 1e-3) return `${threeDigits(value * 1e3)} ms`
  return `${threeDigits(value * 1e6)} µs`
}

/** C0 and C1 controls but for tab and line ends, and characters that change the direction. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what it looks for
const UNSEEN = /[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g

/** The text with its controls as escapes. */
export function visible(text: string): string {
  return text.replace(
    UNSEEN,
    character => `\\u{${character.charCodeAt(0).toString(16).padStart(2, '0')}}`,
  )
}

/** A token in a table: its spaces and line ends are seen, too. */
export function symbols(text: string): string {
  if (text === '') return '(part of a character)'
  return visible(text)
    .replaceAll(' ', '␣')
    .replaceAll('\n', '⏎')
    .replaceAll('\r', '␍')
    .replaceAll('\t', '⇥')
}

/** A short name for each subject that no other has. */
export function namesOf(subjects: readonly Subject[]): string[] {
  const differ = (key: 'model' | 'file') => new Set(subjects.map(each => each[key])).size > 1
  const models = shortNames(subjects.map(({ model }) => model))
  const files = shortNames(subjects.map(({ file }) => file))
  return subjects.map(({ model, file }) => {
    const parts = [
      differ('model') && models.get(model),
      (!differ('model') || differ('file')) && files.get(file),
    ]
    return visible(parts.filter(Boolean).join(' · '))
  })
}
