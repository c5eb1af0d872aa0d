/** All numbers of a survey, as its windows come. */
import type { Model } from '../generation/model.js'
import type { ForwardResult } from '../generation/results.js'
import type { TextStream } from '../tokenizer/text-stream.js'
import { AgreementCounter } from './agreement.js'
import { findings } from './findings.js'
import { ownLogits } from './residual.js'
import { LayerCounter } from './statistics.js'
import type { SurveyLayer } from './survey-layers.js'
import type { LayerRows, Subject, TokenRows } from './types.js'
import { TokenSums } from './vocabulary.js'
import type { Window } from './windows.js'

type Captured = ForwardResult['captured']

/** One layer's part of a window, without the begin tokens. */
interface LayerPart {
  readonly experts: Int32Array
  readonly weights: Float32Array
  readonly logits: Float32Array
}

export class Tally {
  readonly #layers: readonly SurveyLayer[]
  readonly #begin: number
  readonly #counters: readonly LayerCounter[]
  readonly #agreements: readonly AgreementCounter[]
  readonly #sums: TokenSums
  readonly #texts: TextStream
  /** Of each layer [n]: FFN experts of each token of a window. */
  readonly #ffn: readonly Uint8Array[]
  /** [n, E] of a window. */
  readonly #own: Float64Array
  #tokens = 0

  /** `begin`: tokens in front of each window that are no tokens of the text. */
  constructor(
    { tokenizer, config }: Model,
    layers: readonly SurveyLayer[],
    { begin, windowTokens }: { begin: number; windowTokens: number },
  ) {
    this.#layers = layers
    this.#begin = begin
    this.#counters = layers.map(layer => new LayerCounter(layer))
    this.#agreements = layers
      .slice(1)
      .map((layer, before) => new AgreementCounter(layers[before]!, layer))
    this.#sums = new TokenSums(tokenizer, config.vocabSize, layers.length)
    this.#texts = tokenizer.stream({ skipSpecialTokens: false })
    this.#ffn = layers.map(() => new Uint8Array(windowTokens))
    const widest = Math.max(...layers.map(({ kinds }) => kinds.length))
    this.#own = new Float64Array(layers.some(hasResidual) ? windowTokens * widest : 0)
  }

  get tokens(): number {
    return this.#tokens
  }

  /** Returns the texts of the window's tokens. */
  add({ ids }: Window, captured: Captured): string[] {
    const tokens = ids.length - this.#begin
    const parts = this.#parts(captured)
    for (const [i, { experts, weights }] of parts.entries()) {
      this.#counters[i]!.add(experts, weights, this.#ffn[i]!)
      this.#addScores(i, captured, parts[i]!.logits)
    }
    for (const [i, agreement] of this.#agreements.entries())
      agreement.add(parts[i]!.experts, this.#ffn[i]!, parts[i + 1]!.experts, this.#ffn[i + 1]!)
    const texts = new Array<string>(tokens)
    for (let t = 0; t < tokens; t++) {
      const id = ids[this.#begin + t]!
      texts[t] = this.#texts.push(id)
      let ffnExperts = 0
      for (const counts of this.#ffn) ffnExperts += counts[t]!
      this.#sums.add(id, texts[t]!, ffnExperts)
    }
    this.#tokens += tokens
    return texts
  }

  /** Of the window that was added last. */
  rows({ ids, number, first }: Window, captured: Captured, texts: readonly string[]): TokenRows {
    const parts = this.#parts(captured)
    return {
      first,
      window: number,
      position: this.#begin,
      tokens: Int32Array.from(ids).subarray(this.#begin),
      texts,
      layers: this.#layers.map((layer, i) => {
        const { constantScores: name } = layer
        const scores = name === undefined ? new Float32Array() : (captured[name] as Float32Array)
        const ffnExperts = this.#ffn[i]!.slice(0, ids.length - this.#begin)
        return { ...layerRows(layer, parts[i]!, this.#text(scores, ids.length)), ffnExperts }
      }),
    }
  }

  result(): Pick<
    Subject,
    'tokens' | 'ffnExperts' | 'layers' | 'agreement' | 'vocabulary' | 'places' | 'findings'
  > {
    const layers = this.#counters.map(counter => counter.result())
    return {
      tokens: this.#tokens,
      layers,
      agreement: this.#agreements.map(counter => counter.result()),
      findings: findings(layers),
      ...this.#sums.result(),
    }
  }

  #parts(captured: Captured): LayerPart[] {
    return this.#layers.map(({ indices, weights, logits, topK }) => {
      const experts = captured[indices] as Int32Array
      const tokens = experts.length / topK
      return {
        experts: this.#text(experts, tokens),
        weights: this.#text(captured[weights] as Float32Array, tokens),
        logits: this.#text(captured[logits] as Float32Array, tokens),
      }
    })
  }

  #addScores(i: number, captured: Captured, logits: Float32Array): void {
    const { residual, normStd, masked, kinds } = this.#layers[i]!
    const scores = { logits, normStd, masked }
    if (!residual) {
      this.#counters[i]!.addScores(scores)
      return
    }
    const previous = captured[residual.previous] as Float32Array
    const own = this.#own.subarray(0, logits.length)
    ownLogits(logits, previous.subarray(this.#begin * kinds.length), residual.map, own)
    this.#counters[i]!.addScores({ ...scores, ownLogits: own })
  }

  /** The rows without those of the begin tokens. */
  #text<Rows extends Int32Array | Float32Array>(rows: Rows, tokens: number): Rows {
    return rows.subarray((rows.length / tokens) * this.#begin) as Rows
  }
}

function hasResidual({ residual }: SurveyLayer): boolean {
  return residual !== undefined
}

function layerRows(
  { layer, topK, kinds, inputScale }: SurveyLayer,
  { experts, weights, logits }: LayerPart,
  constantScores: Float32Array,
): Omit<LayerRows, 'ffnExperts'> {
  const chosen = new Float32Array(experts.length)
  const replaced = new Float32Array(experts.length)
  let constants = 0
  // Of each expert: its number among the constant ones.
  const numbers = kinds.map(kind => (kind === 'constant' ? constants++ : -1))
  for (const [i, expert] of experts.entries()) {
    const token = Math.floor(i / topK)
    chosen[i] = logits[token * kinds.length + expert]!
    const constant = numbers[expert]!
    if (constant < 0) continue
    const at = 2 * (token * constants + constant)
    // Softmax over two.
    const apart = inputScale * (constantScores[at]! - constantScores[at + 1]!)
    replaced[i] = 1 / (1 + Math.exp(apart))
  }
  return { layer, topK, kinds, experts, weights, logits: chosen, replaced }
}
