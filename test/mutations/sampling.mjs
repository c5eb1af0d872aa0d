/** Mutations of the sampler: scripts/mutations.mjs. */
const tests = ['test/sampling/sampler.test.ts']

export default [
  {
    name: 'sampling-top-p-keeps-one-too-few',
    breaks: 'The token that crosses topP is dropped.',
    in: 'lib/sampling',
    find: 'if (mass >= target) return false',
    replace: 'if (mass + this.weights[i]! >= target) return false',
    tests,
  },
  {
    name: 'sampling-temperature-after-top-p',
    breaks: 'The temperature reaches the weights of topP, but not the scores of its order.',
    in: 'lib/sampling',
    find: 'this.weights[count++] = Math.exp(score)',
    replace: 'this.weights[count++] = Math.exp(x - largest)',
    tests,
  },
  {
    name: 'sampling-presence-counts',
    breaks: 'The presence penalty is applied once for each time that a token was generated.',
    in: 'lib/sampling',
    find: 'count * frequencyPenalty + presencePenalty',
    replace: 'count * (frequencyPenalty + presencePenalty)',
    tests: ['test/sampling/penalties.test.ts'],
  },
  {
    name: 'sampling-restores-forwards',
    breaks: 'A logit that two rules changed is left with its value between them.',
    in: 'lib/sampling',
    find: 'for (let i = this.#changedPlaces.length - 1; i >= 0; i--)',
    replace: 'for (let i = 0; i < this.#changedPlaces.length; i++)',
    tests: ['test/sampling/penalties.test.ts'],
  },
  {
    name: 'sampling-end-token-held-back-too-long',
    breaks: 'minNewTokens bans the end for one token more.',
    in: 'lib/sampling',
    find: 'if (this.#generated < this.#options.minNewTokens && !mustEnd)',
    replace: 'if (this.#generated <= this.#options.minNewTokens && !mustEnd)',
    tests: ['test/sampling/penalties.test.ts'],
  },
  {
    name: 'sampling-step-not-counted',
    breaks: 'Every token of a sequence is drawn with the same random number.',
    in: 'lib/sampling',
    find: '    this.#step++\n',
    replace: '',
    tests,
  },
  {
    name: 'sampling-ties-suffice',
    breaks: 'The largest logits suffice though unknown tokens tie with the last one needed.',
    in: 'lib/sampling',
    find: 'top.logits[needed - 1]! > unknown',
    replace: 'top.logits[needed - 1]! >= unknown',
    tests: ['test/sampling/top-logits.slow.test.ts'],
  },
  {
    name: 'sampling-logprobs-of-later-ties',
    breaks: 'Of tokens that tie for the last place in logprobs the later ones are listed.',
    in: 'lib/sampling',
    find: 'tied.push(id)',
    replace: 'tied.unshift(id)',
    tests: ['test/sampling/logprobs.test.ts'],
  },
]
