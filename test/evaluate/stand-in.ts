/** A model whose probabilities are hashes of all tokens before: equal texts, equal numbers. */
import type { Scorer } from '../../lib/evaluate/evaluation.js'
import type { Tokenizer } from '../../lib/tokenizer/tokenizer.js'

const BOS = 1

/** FNV-1a, 32 bits. */
const hashed = (hash: number, value: number) => Math.imul(hash ^ value, 16777619) >>> 0
const START = 2166136261

/** A word of English letters, with the blank before it, or a character is a token. */
function encode(text: string, { addSpecialTokens = true } = {}): number[] {
  const ids = Array.from(
    text.matchAll(/ ?[A-Za-z]+|[\s\S]/gu),
    ([part]) => (Buffer.from(part).reduce(hashed, START) % 50000) + 2,
  )
  return addSpecialTokens ? [BOS, ...ids] : ids
}

export function standIn(contextLength: number): Scorer {
  const tokenizer = {
    encode,
    encodeAsync: async (text: string, options: object) => encode(text, options),
    bosTokenId: BOS,
  } as unknown as Tokenizer
  const score = async (context: readonly number[], continuation: readonly number[]) => {
    if (context.length + continuation.length - 1 > contextLength) throw new Error('too long')
    let hash = context.reduce(hashed, START)
    const hashes = continuation.map(id => (hash = hashed(hash, id)))
    const logprobs = hashes.map(each => -(each % 1000003) / 250000)
    const logprob = logprobs.reduce((sum, x) => sum + x, 0)
    const greedy = hashes.map(each => (each >>> 8) % 4 !== 0)
    return { tokenIds: [...continuation], logprobs, logprob, greedy }
  }
  return { tokenizer, contextLength, score: score as Scorer['score'] }
}
