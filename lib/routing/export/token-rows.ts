/** The table of tokens: a row for each token and layer. */
import type { Subject, TokenRows } from '../types.js'
import type { Cell } from './csv.js'

export interface TokenColumn {
  readonly name: string
  readonly type: 'STRING' | 'INT32' | 'FLOAT'
  /** Layers with fewer picks have no value. */
  readonly nullable: boolean
}

/** Picks of the layers of all models. */
export interface Picks {
  readonly least: number
  readonly most: number
}

export type Names = Pick<Subject, 'model' | 'file'>

export function tokenColumns({ least, most }: Picks): TokenColumn[] {
  const column = (name: string, type: TokenColumn['type'], nullable = false) => ({
    name,
    type,
    nullable,
  })
  return [
    column('model', 'STRING'),
    column('file', 'STRING'),
    column('window', 'INT32'),
    column('position', 'INT32'),
    column('token', 'INT32'),
    column('text', 'STRING'),
    column('layer', 'INT32'),
    column('ffn_experts', 'INT32'),
    ...Array.from({ length: most }, (_, k) => [
      column(`expert_${k}`, 'INT32', k >= least),
      column(`weight_${k}`, 'FLOAT', k >= least),
      column(`logit_${k}`, 'FLOAT', k >= least),
      column(`replaced_${k}`, 'FLOAT', k >= least),
    ]).flat(),
  ]
}

/** Cells in the order of the columns; the layers of a token follow each other. */
export function* tokenCells(
  { model, file }: Names,
  { window, position, tokens, texts, layers }: TokenRows,
  { most }: Picks,
): Generator<Cell[]> {
  for (let i = 0; i < tokens.length; i++) {
    for (const layer of layers) {
      const cells: Cell[] = [model, file, window, position + i, tokens[i]!, texts[i]!]
      cells.push(layer.layer, layer.ffnExperts[i]!)
      for (let k = 0; k < most; k++) {
        const at = i * layer.topK + k
        if (k >= layer.topK) cells.push(null, null, null, null)
        else
          cells.push(layer.experts[at]!, layer.weights[at]!, layer.logits[at]!, layer.replaced[at]!)
      }
      yield cells
    }
  }
}
