/** Texts of models and files on a terminal. */

/** But for tabs and line breaks, and the characters that turn the direction of a text. */
const OBEYED = /[^\P{Cc}\n\t]|[\u202a-\u202e\u2066-\u2069]/gu

/**
 * Text with escapes for what a terminal would obey. Carriage returns are left out. Each character
 * counts alone, so a stream may be cut anywhere.
 */
export function visible(text: string): string {
  return text.replaceAll(OBEYED, character =>
    character === '\r' ? '' : `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}
