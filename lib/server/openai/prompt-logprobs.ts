/** Log-probabilities of a prompt in vLLM's form, by token id. */
import type { GenerateResult } from '../../generation/results.js'
import type { Tokenizer } from '../../tokenizer/tokenizer.js'
import { finite, tokenText } from './token-text.js'

/** The first token has none. The rank is known of the likeliest tokens alone. */
export type PromptLogprobs = readonly (Readonly<Record<string, object>> | null)[]

/** With the `count` likeliest tokens at each place. */
export function promptLogprobsById(
  { promptLogprobs = [] }: Pick<GenerateResult, 'promptLogprobs'>,
  count: number,
  tokenizer: Tokenizer,
): PromptLogprobs {
  const described = (id: number, logprob: number) => ({
    logprob: finite(logprob),
    decoded_token: tokenText(tokenizer, id),
  })
  return promptLogprobs.map(entry => {
    if (!entry) return null
    const { tokenId, logprob, top } = entry
    const likeliest = top
      .slice(0, count)
      .map((each, i) => [each.tokenId, { ...described(each.tokenId, each.logprob), rank: i + 1 }])
    return { [tokenId]: described(tokenId, logprob), ...Object.fromEntries(likeliest) }
  })
}
