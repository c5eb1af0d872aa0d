/** The n-gram embedding of LongCat-Flash-Lite. docs/models/longcat-flash.md, "N-grams". */
import type { Buffer } from '../program/builder.js'
import type { ModelBuilder } from '../program/model-builder.js'
import { linear } from '../program/ops.js'

export interface NgramShape {
  readonly vocabSize: number
  readonly hiddenSize: number
  /** n: tokens of the longest n-gram; the shortest has 2. */
  readonly ngramOrder: number
  /** k: tables of each order. */
  readonly ngramSplits: number
  /** Rows of a table for each token of the vocabulary. */
  readonly ngramRatio: number
  /** n-grams do not reach back over these tokens. */
  readonly eosTokenIds: readonly number[]
}

/** The tables of one model, and the rows of them that tokens read. */
export class Ngrams {
  /** Rows of each table: by orders from 2 on, and for each order by its splits. */
  readonly tableRows: readonly number[]
  readonly #shape: NgramShape
  readonly #ends: ReadonlySet<number>

  constructor(shape: NgramShape) {
    const { ngramOrder, ngramSplits, ngramRatio, vocabSize } = shape
    this.#shape = shape
    this.#ends = new Set(shape.eosTokenIds)
    const tables = ngramSplits * (ngramOrder - 1)
    this.tableRows = Array.from({ length: tables }, (_, t) => ngramRatio * vocabSize + 2 * t + 1)
  }

  /** Tokens before each one that its rows depend on. */
  get reach(): number {
    return this.#shape.ngramOrder - 1
  }

  /** Elements of a table's row. */
  get width(): number {
    return this.#shape.hiddenSize / this.tableRows.length
  }

  /**
   * The rows [T, tables] of tokens, of all tables one below the other.
   * @param preceding [T, reach]: the tokens before each one, the nearest first, 0 if there is none
   */
  rows(tokens: Int32Array, preceding: Int32Array): Int32Array {
    const { reach, tableRows } = this
    const rows = new Int32Array(tokens.length * tableRows.length)
    for (const [t, token] of tokens.entries()) {
      const before = preceding.subarray(t * reach, (t + 1) * reach)
      rows.set(this.#rowsOf([token, ...this.#segment(before)]), t * tableRows.length)
    }
    return rows
  }

  /** From the nearest end of a text on there is nothing. */
  #segment(before: Int32Array): Int32Array {
    const end = before.findIndex(token => this.#ends.has(token))
    return end === -1 ? before : before.slice().fill(0, end)
  }

  /** @param ids a token and those before it, the nearest first */
  #rowsOf(ids: readonly number[]): number[] {
    const { ngramSplits, vocabSize } = this.#shape
    let first = 0
    return this.tableRows.map((rows, t) => {
      const order = 2 + Math.floor(t / ngramSplits)
      const row = ids
        .slice(0, order)
        .reduceRight((hash, id) => (timesModulo(hash, vocabSize, rows) + id) % rows, 0)
      first += rows
      return first - rows + row
    })
  }
}

/** a * b modulo m, of integers below 2^31. The product itself may be above 2^53. */
export function timesModulo(a: number, b: number, m: number): number {
  const high = ((Math.floor(a / 65536) * b) % m) * 65536
  return (high + (a % 65536) * b) % m
}

/**
 * The projected rows of all tables [T, H], to be added to the tokens' embedding. The tables stay in
 * the checkpoint's files. They are as large as all the rest, and a token reads one row of each.
 * @param table and `projection`: the stored names of a table, and of its projection
 */
export function ngramEmbedding(
  m: ModelBuilder,
  ngrams: Ngrams,
  { hiddenSize: H }: NgramShape,
  names: { table(t: number): string; projection(t: number): string },
): { delta: Buffer; scale: number } {
  const { width: W, tableRows } = ngrams
  const tables = tableRows.map((rows, t) => ({ name: names.table(t), shape: [rows, W] }))
  const rows = m.input('ngram_rows', 'i32', ['T', tables.length])
  const x = m.lookup('ngrams', 'model.ngram_embeddings.embedders.weight', {
    rows,
    width: W,
    parts: tables,
  })
  const projections = tableRows.map((_, t) => ({ name: names.projection(t), shape: [H, W] }))
  const weight = m.matrix('ngrams', 'model.ngram_embeddings.post_projs.weight', [H, H], projections)
  return { delta: linear(m, 'ngrams', { x, weight }), scale: 1 / (1 + tables.length) }
}
