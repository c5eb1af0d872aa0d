/** The table of tokens as a file, window by window: memory does not grow with the text. */
import { StagedFile } from '../../base/staged-file.js'
import type { TokenRows } from '../types.js'
import { type Cell, csvLine } from './csv.js'
import { type Names, type Picks, type TokenColumn, tokenCells, tokenColumns } from './token-rows.js'

export const TOKEN_FILES = ['.parquet', '.csv'] as const

export type AddTokens = (names: Names, rows: TokenRows) => Promise<void>

/** A format of the file. */
export interface TableWriter {
  /** A row, and whether enough of them wait to be written. */
  add(cells: readonly Cell[]): boolean
  /** Writes the rows that wait. */
  flush(): Promise<void>
  /** Writes the end of the file. */
  finish(): Promise<void>
}

/**
 * The file is there when `work` has ended well. It takes the rows meanwhile.
 *
 * @throws what `work` throws; MoeppError ERR_CANNOT_WRITE
 */
export async function withTokenFile<T>(
  path: string,
  picks: Picks,
  work: (add: AddTokens) => Promise<T>,
): Promise<T> {
  return StagedFile.with(path, async file => {
    const columns = tokenColumns(picks)
    const writer = path.endsWith('.csv')
      ? new CsvWriter(file, columns)
      : await (await import('./parquet.js')).parquetWriter(file, columns)
    const result = await work(async (names, rows) => {
      for (const cells of tokenCells(names, rows, picks))
        if (writer.add(cells)) await writer.flush()
    })
    await writer.flush()
    await writer.finish()
    return result
  })
}

const FLUSHED_CHARACTERS = 2 ** 20

class CsvWriter implements TableWriter {
  readonly #file: StagedFile
  readonly #columns: readonly TokenColumn[]
  #text: string

  constructor(file: StagedFile, columns: readonly TokenColumn[]) {
    this.#file = file
    this.#columns = columns
    this.#text = csvLine(columns.map(({ name }) => name))
  }

  add(cells: readonly Cell[]): boolean {
    this.#text += csvLine(
      cells.map((cell, i) => (this.#columns[i]!.type === 'FLOAT' ? float(cell) : cell)),
    )
    return this.#text.length >= FLUSHED_CHARACTERS
  }

  async flush(): Promise<void> {
    await this.#file.append(Buffer.from(this.#text))
    this.#text = ''
  }

  async finish(): Promise<void> {}
}

/** Nine digits name a float32 exactly. */
function float(cell: Cell): Cell {
  return typeof cell === 'number' ? Number(cell.toPrecision(9)) : cell
}
