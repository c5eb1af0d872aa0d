/** Byte-level BPE as plainly as it can be written, to compare with. */

import type { AddedTokenJson, TokenizerJson } from '../../lib/tokenizer/json-form.js'

export const QWEN =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" +
  '|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+'
export const LLAMA3 = QWEN.replace('|\\p{N}|', '|\\p{N}{1,3}|')
export const GPT2 =
  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

/** The pattern in JavaScript's words: other space, and no case folding of a part. */
export function translated(pattern: string): RegExp {
  const source = pattern
    .replace("(?i:'s|'t|'re|'ve|'m|'ll|'d)", "'(?:[sSſ]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL]{2}|[dD])")
    .replaceAll('[^\\s', '[^\\p{White_Space}')
    .replaceAll('\\S', '\\P{White_Space}')
    .replaceAll('\\s', '\\p{White_Space}')
  return new RegExp(source, 'gu')
}

const letters = (() => {
  const kept = Array.from({ length: 256 }, (_, byte) => byte).filter(
    byte => (byte > 32 && byte < 127) || (byte > 160 && byte !== 173),
  )
  const rest = Array.from({ length: 256 }, (_, byte) => byte).filter(byte => !kept.includes(byte))
  return new Map([
    ...kept.map((byte): [number, string] => [byte, String.fromCharCode(byte)]),
    ...rest.map((byte, i): [number, string] => [byte, String.fromCharCode(256 + i)]),
  ])
})()

export interface ReferenceForm {
  readonly json: TokenizerJson
  /** None: no pattern cuts the text. */
  readonly pattern: string | undefined
  readonly isNfc: boolean
}

export function referenceEncode(text: string, { json, pattern, isNfc }: ReferenceForm): number[] {
  const nfc = (part: string) => (isNfc ? part.normalize('NFC') : part)
  const raw = json.added_tokens.filter(token => !token.normalized)
  const normalized = json.added_tokens.filter(token => token.normalized)
  const parts = cut(text.toWellFormed(), raw, content => content).flatMap(part =>
    typeof part === 'number' ? [part] : cut(nfc(part), normalized, nfc),
  )
  return parts.flatMap(part => {
    if (typeof part === 'number') return [part]
    const words = pattern === undefined ? [part] : (part.match(translated(pattern)) ?? [])
    return words.flatMap(word => merge(word, json))
  })
}

function cut(
  text: string,
  tokens: readonly AddedTokenJson[],
  form: (content: string) => string,
): (string | number)[] {
  const longest = [...tokens].sort((a, b) => form(b.content).length - form(a.content).length)
  const parts: (string | number)[] = []
  let start = 0
  for (let at = 0; at < text.length; ) {
    const token = longest.find(({ content }) => text.startsWith(form(content), at))
    if (!token) {
      at++
      continue
    }
    let [from, to] = [at, at + form(token.content).length]
    at = to
    const word = /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]/u
    const around = [...text.slice(0, from)].slice(-1).concat([...text.slice(to)].slice(0, 1))
    if (token.single_word && around.some(character => word.test(character))) continue
    if (token.lstrip) {
      const before = text.slice(start, from)
      from = start + before.replace(/\p{White_Space}+$/u, '').length
    }
    if (token.rstrip) to = text.length - text.slice(to).replace(/^\p{White_Space}+/u, '').length
    if (from > start) parts.push(text.slice(start, from))
    parts.push(token.id)
    start = to
  }
  if (start < text.length) parts.push(text.slice(start))
  return parts
}

/** Made once for each tokenizer. */
function once<T>(make: (json: TokenizerJson) => T): (json: TokenizerJson) => T {
  const made = new WeakMap<TokenizerJson, { readonly value: T }>()
  return json => {
    const known = made.get(json) ?? { value: make(json) }
    made.set(json, known)
    return known.value
  }
}

const ranksOf = once(
  ({ model }) =>
    new Map(
      model.merges.map((pair, rank) => [typeof pair === 'string' ? pair : pair.join(' '), rank]),
    ),
)

const tokensOf = once(({ model, added_tokens }) => ({
  added: new Map(added_tokens.map(token => [token.id, token])),
  names: new Map(Object.entries(model.vocab).map(([content, id]) => [id, content])),
}))

function merge(word: string, json: TokenizerJson): number[] {
  const { model } = json
  const ranks = ranksOf(json)
  const symbols = [...Buffer.from(word)].map(byte => letters.get(byte)!)
  const whole = symbols.join('')
  if (model.ignore_merges && Object.hasOwn(model.vocab, whole)) return [model.vocab[whole]!]
  for (;;) {
    let best = -1
    let least = Number.POSITIVE_INFINITY
    for (let i = 0; i + 1 < symbols.length; i++) {
      const rank = ranks.get(`${symbols[i]} ${symbols[i + 1]}`) ?? Number.POSITIVE_INFINITY
      if (rank < least) [best, least] = [i, rank]
    }
    if (best === -1) return symbols.map(symbol => model.vocab[symbol]!)
    symbols.splice(best, 2, symbols[best]! + symbols[best + 1]!)
  }
}

const bytes = new Map([...letters].map(([byte, letter]) => [letter, byte]))

/** Special tokens are left out before the bytes are joined. */
export function referenceDecode(
  ids: readonly number[],
  json: TokenizerJson,
  skipSpecial: boolean,
): string {
  const { added, names } = tokensOf(json)
  const parts = ids.map(id => {
    const token = added.get(id)
    if (token) return Buffer.from(skipSpecial && token.special ? '' : token.content)
    return Buffer.from([...(names.get(id) ?? '')].map(letter => bytes.get(letter)!))
  })
  return new TextDecoder('utf-8', { ignoreBOM: true }).decode(Buffer.concat(parts))
}
