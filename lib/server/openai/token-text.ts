/** Tokens as texts of an answer, each by itself. */
import type { Tokenizer } from '../../tokenizer/tokenizer.js'

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/**
 * The text that a token stands for, special tokens by their names. As in OpenAI's API, bytes that
 * are no whole characters read `bytes:\xe2\x96`. As in vLLM's, an id without a token reads
 * `token_id:7`.
 */
export function tokenText({ pieces }: Tokenizer, id: number): string {
  const bytes = pieces.bytes.get(id)
  if (!bytes) return pieces.texts[id] ?? `token_id:${id}`
  try {
    return UTF8.decode(bytes)
  } catch {
    const hex = Array.from(bytes, byte => `\\x${byte.toString(16).padStart(2, '0')}`)
    return `bytes:${hex.join('')}`
  }
}

/** The bytes that a token stands for; null for an id without a token. */
export function tokenBytes({ pieces }: Tokenizer, id: number): number[] | null {
  const bytes = pieces.bytes.get(id)
  if (bytes) return [...bytes]
  const text = pieces.texts[id]
  return text === undefined ? null : [...Buffer.from(text)]
}

/** JSON has no infinity: as in OpenAI's API, -9999 stands for a token that cannot come. */
export function finite(logprob: number): number {
  return logprob === -Infinity ? -9999 : logprob
}
