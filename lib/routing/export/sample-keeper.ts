/** Keeps the first tokens of a text for the page: no more of them than it shows. */
import type { LayerRows, Sample, TokenRows } from '../types.js'

export interface SampleRoom {
  readonly tokens: number
  /** Picks of the first tokens: those behind them have the number of their FFN experts alone. */
  readonly picks: number
}

export class SampleKeeper {
  readonly #rows: TokenRows[] = []
  #tokens: number
  #picks: number

  constructor({ tokens, picks }: SampleRoom) {
    this.#tokens = tokens
    this.#picks = picks
  }

  add(rows: TokenRows): void {
    const n = Math.min(this.#tokens, rows.tokens.length)
    if (n === 0) return
    const picks = rows.layers.reduce((sum, { topK }) => sum + n * topK, 0)
    // Once there is no room, there is none for later rows.
    if (picks > this.#picks) this.#picks = 0
    this.#rows.push(firstOf(rows, n, this.#picks > 0))
    this.#tokens -= n
    this.#picks = Math.max(0, this.#picks - picks)
  }

  get sample(): Sample {
    return { rows: this.#rows }
  }
}

/** Copies: rows may be views of larger arrays. */
function firstOf(rows: TokenRows, n: number, withPicks: boolean): TokenRows {
  return {
    ...rows,
    tokens: rows.tokens.slice(0, n),
    texts: rows.texts.slice(0, n),
    layers: rows.layers.map(layer => firstOfLayer(layer, n, withPicks ? n * layer.topK : 0)),
  }
}

function firstOfLayer(layer: LayerRows, n: number, picks: number): LayerRows {
  return {
    ...layer,
    ffnExperts: layer.ffnExperts.slice(0, n),
    experts: layer.experts.slice(0, picks),
    weights: layer.weights.slice(0, picks),
    logits: layer.logits.slice(0, picks),
    replaced: layer.replaced.slice(0, picks),
  }
}
