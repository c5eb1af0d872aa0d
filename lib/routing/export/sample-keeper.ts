/** Keeps the first tokens of a text for the page. */
import type { LayerRows, Sample, TokenRows } from '../types.js'

export class SampleKeeper {
  readonly #rows: TokenRows[] = []
  #room: number

  constructor(tokens: number) {
    this.#room = tokens
  }

  add(rows: TokenRows): void {
    const n = Math.min(this.#room, rows.tokens.length)
    if (n === 0) return
    this.#room -= n
    this.#rows.push(firstOf(rows, n))
  }

  get sample(): Sample {
    return { rows: this.#rows }
  }
}

function firstOf(rows: TokenRows, n: number): TokenRows {
  if (n === rows.tokens.length) return rows
  return {
    ...rows,
    tokens: rows.tokens.slice(0, n),
    texts: rows.texts.slice(0, n),
    layers: rows.layers.map(layer => firstPicksOf(layer, n * layer.topK)),
  }
}

function firstPicksOf(layer: LayerRows, picks: number): LayerRows {
  return {
    ...layer,
    experts: layer.experts.slice(0, picks),
    weights: layer.weights.slice(0, picks),
    logits: layer.logits.slice(0, picks),
    replaced: layer.replaced.slice(0, picks),
  }
}
