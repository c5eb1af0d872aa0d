/** A report and rows that are made up, of two models: no number is like another. */
import type { RoutingReport, Subject, TokenRows } from '../../lib/routing/types.js'

const KINDS = ['ffn', 'ffn', 'constant', 'copy', 'zero'] as const
export const HARD_TEXTS = ['the', ' "quoted", and\r\nbroken', '', 'naïve ☕', ',', '=1+1']

const moments = (mean: number) => ({ count: 30, mean, variance: 2, least: -3.5, most: 4.25 })

function subject(model: string, file: string, withRouter: boolean): Subject {
  const times = { prefill: 0.25, decode: 0.5 }
  return {
    ...{ model, file, device: 'cpu', dtype: 'float32', tokens: 6, windowTokens: 4 },
    ffnExperts: { count: 6, mean: 1.25, halfWidth: 0.125 },
    layers: [
      {
        ...{ layer: 1, tokens: 6, topK: 2, kinds: KINDS },
        picks: [3, 2, 4, 2, 1],
        weights: [1.5, 1, 2, 1, 0.25],
        ffnExperts: [2, 3, 1],
        ...(withRouter && {
          router: {
            probabilities: [1.2, 1.2, 1.2, 1.2, 1.2],
            entropy: 9,
            scores: moments(0.5),
            ownScores: moments(-0.5),
          },
        }),
      },
    ],
    agreement: [
      {
        ...{ layer: 1, nextLayer: 2, same: 0.5, expected: 0.4, information: 0.3 },
        ffnCorrelation: withRouter ? -0.25 : null,
      },
    ],
    vocabulary: HARD_TEXTS.map((text, token) => ({
      token,
      text,
      ffnExperts: { count: 12 - token, mean: 2 - token / 8, halfWidth: token === 3 ? null : 0.01 },
    })),
    places: [{ place: 'whole', ffnExperts: { count: 6, mean: 1.5, halfWidth: 0.5 } }],
    findings: [{ kind: 'dead-expert', layer: 1, expert: 4, text: 'no token picked expert 4' }],
    cost: withRouter
      ? {
          model: {
            ffnExperts: 1.25,
            operations: 2e6,
            bytes: 3e6,
            predicted: times,
            measured: null,
          },
          twin: { ffnExperts: 2, operations: 4e6, bytes: 4e6, predicted: times, measured: times },
          ceilings: { bytesPerSecond: 1e10, operationsPerSecond: 1e11 },
        }
      : null,
  }
}

export function report(): RoutingReport {
  const subjects = [subject('models/a', 'x, "y".txt', true), subject('b', 'z.txt', false)]
  return { version: 1, moepp: '0.1.0', subjects }
}

/** n tokens through a layer of 2 picks, and another of `topK`. */
export function tokenRows(n: number, first: number, topK: number): TokenRows {
  return {
    ...{ first, window: first / 100, position: first % 7 },
    tokens: Int32Array.from({ length: n }, (_, i) => (first + i) % 50257),
    texts: Array.from({ length: n }, (_, i) => HARD_TEXTS[i % HARD_TEXTS.length]!),
    layers: [2, topK].map((topK, index) => {
      const floats = (scale: number) =>
        Float32Array.from({ length: n * topK }, (_, i) => ((first + i) % 1013) * scale - index)
      const experts = Int32Array.from({ length: n * topK }, (_, i) => (first + 3 * i) % 5)
      const weights = floats(0.1).map(x => (x < 20 ? 0 : x))
      const isFfn = (at: number) => experts[at]! < 2 && weights[at]! > 0
      return {
        ...{ layer: 3 * index, topK, kinds: KINDS },
        ffnExperts: Uint8Array.from({ length: n }, (_, i) =>
          Array.from({ length: topK }, (_, k) => Number(isFfn(i * topK + k))).reduce(
            (sum, each) => sum + each,
          ),
        ),
        ...{ experts, weights },
        logits: floats(-1 / 3),
        replaced: floats(1e-7),
      }
    }),
  }
}
