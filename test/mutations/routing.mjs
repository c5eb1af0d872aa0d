/** Mutations of the numbers about routing: scripts/mutations.mjs. */
const numbers = ['test/routing/statistics.test.ts']
const survey = ['test/routing/survey.test.ts']
const planted = ['test/routing/planted.test.ts']
const server = ['test/server/return-routing.test.ts']

export default [
  {
    name: 'routing-eta-of-the-other-kind',
    breaks: 'The loss weighs FFN experts by tau, and the others by 1.',
    in: 'lib/routing/balance.ts',
    find: "kinds[i] === 'ffn' ? 1 : tau",
    replace: "kinds[i] === 'ffn' ? tau : 1",
    tests: numbers,
  },
  {
    name: 'routing-agreement-of-the-first-layers-experts',
    breaks: 'The table of first choices has the width of the wrong layer.',
    in: 'lib/routing/agreement.ts',
    find: 'const experts = this.#b.kinds.length',
    replace: 'const experts = this.#a.kinds.length',
    tests: numbers,
  },
  {
    name: 'routing-scale-of-a-biased-deviation',
    breaks: 'Logits are scaled by a deviation that is divided by E.',
    in: 'lib/routing/router-scores.ts',
    find: 'squares / (experts - 1)',
    replace: 'squares / experts',
    tests: numbers,
  },
  {
    name: 'routing-nan-is-counted',
    breaks: 'A token whose logits are NaN makes the sums of its layer NaN.',
    in: 'lib/routing/router-scores.ts',
    find: 'return Number.isFinite(variance)',
    replace: 'return variance !== Number.POSITIVE_INFINITY',
    tests: numbers,
  },
  {
    name: 'routing-mask-is-ignored',
    breaks: 'The softmax of a masked router has zero-computation experts.',
    in: 'lib/routing/router-scores.ts',
    find: "this.#leftOut[masked ? 'masked' : 'unmasked']",
    replace: 'this.#leftOut.unmasked',
    tests: survey,
  },
  {
    name: 'routing-residual-of-the-token-before',
    breaks: 'Own scores take the logits that the layer before has for another token.',
    in: 'lib/routing/tally.ts',
    find: 'previous.subarray(this.#begin * kinds.length)',
    replace: 'previous',
    tests: survey,
  },
  {
    name: 'routing-share-of-a-single-input',
    breaks: 'The share of a constant expert forgets that its input is doubled.',
    in: 'lib/routing/tally.ts',
    find: 'const apart = inputScale * (',
    replace: 'const apart = (',
    tests: planted,
  },
  {
    name: 'routing-agreement-within-a-layer',
    breaks: 'FFN experts of a layer are compared with themselves.',
    in: 'lib/routing/tally.ts',
    find: 'this.#ffn[i]!, parts[i + 1]!',
    replace: 'this.#ffn[i + 1]!, parts[i + 1]!',
    tests: survey,
  },
  {
    name: 'server-event-of-routing-unasked',
    breaks: 'A client that did not ask for routing gets an event that has nothing else.',
    in: 'lib/server/routes/completions.ts',
    find: '(returnRouting || !hasOnlyRouting(chunk))',
    replace: '(returnRouting || !hasOnlyRouting(chunk) || true)',
    tests: server,
  },
]
