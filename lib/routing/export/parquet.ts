/** Apache Parquet. hyparquet-writer is an optional peer: only this file imports it. */
import { importPeer } from '../../base/peer.js'
import type { StagedFile } from '../../base/staged-file.js'
import type { Cell } from './csv.js'
import type { TableWriter } from './token-file.js'
import type { TokenColumn } from './token-rows.js'

/** A group of rows is in memory before it is written. */
const GROUP_ROWS = 2 ** 17

/** @throws Error with the line that installs the package, if it is missing */
export function importParquet() {
  return importPeer('hyparquet-writer@0.17', 'a .parquet file', () => import('hyparquet-writer'))
}

export async function parquetWriter(
  file: StagedFile,
  columns: readonly TokenColumn[],
): Promise<TableWriter> {
  const { ByteWriter, ParquetWriter, schemaFromColumnData } = await importParquet()
  const bytes = new ByteWriter()
  const flush = async () => {
    await file.append(bytes.getBytes())
    bytes.index = 0
  }
  const writer = Object.assign(bytes, { flush, finish: flush })
  const schema = schemaFromColumnData({ columnData: columns.map(each => ({ ...each, data: [] })) })
  const parquet = new ParquetWriter({ writer, schema, createdBy: 'moepp' })
  let data = columns.map((): Cell[] => [])
  return {
    add(cells) {
      for (const [i, cell] of cells.entries()) data[i]!.push(cell)
      return data[0]!.length >= GROUP_ROWS
    },
    async flush() {
      const columnData = columns.map(({ name }, i) => ({ name, data: data[i]! }))
      await parquet.write({ columnData, rowGroupSize: GROUP_ROWS })
      data = columns.map(() => [])
    },
    async finish() {
      await parquet.finish()
    },
  }
}
