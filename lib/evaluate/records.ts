/** The lines of a data set, each with its place: JSON Lines, MMLU's CSV, or plain text. */

import { basename, extname } from 'node:path'
import { readText } from '../base/input-file.js'
import { isObject, parseJson, show } from '../base/json.js'
import { MoeppError } from '../errors.js'

/** Data sets are held in memory. The largest one of the known tasks has 50 MB. */
const MAX_FILE_BYTES = 2 ** 28

/** One line's fields. Each reading checks the field. */
export class DataRecord {
  /** The file, and the line's number from 1. */
  readonly where: string
  readonly fields: Readonly<Record<string, unknown>>

  constructor(where: string, fields: Readonly<Record<string, unknown>>) {
    this.where = where
    this.fields = fields
  }

  has(...keys: readonly string[]): boolean {
    return keys.every(key => Object.hasOwn(this.fields, key))
  }

  take(key: string): unknown {
    return this.has(key) ? this.fields[key] : undefined
  }

  text(key: string): string {
    const value = this.take(key)
    return typeof value === 'string' ? value : this.fail(key, 'a text', value)
  }

  texts(key: string): readonly string[] {
    const value = this.take(key)
    const isList = Array.isArray(value) && value.every(each => typeof each === 'string')
    return isList && value.length > 0 ? value : this.fail(key, 'a list of texts', value)
  }

  /** An integer from 0 to `count` - 1, or the text of one, as HellaSwag's labels are. */
  index(key: string, count: number): number {
    const value = this.take(key)
    const number = typeof value === 'string' && /^\d+$/.test(value) ? Number(value) : value
    const within = Number.isInteger(number) && (number as number) >= 0 && (number as number) < count
    return within ? (number as number) : this.fail(key, `an integer from 0 to ${count - 1}`, value)
  }

  /** The object of a field, as a record of its own. */
  inner(key: string): DataRecord {
    const value = this.take(key)
    return isObject(value)
      ? new DataRecord(`${this.where}: ${key}`, value)
      : this.fail(key, 'an object', value)
  }

  /** The objects of a list. */
  list(key: string): DataRecord[] {
    const value = this.take(key)
    const isList = Array.isArray(value) && value.length > 0 && value.every(isObject)
    const list: Record<string, unknown>[] = isList ? value : this.fail(key, 'objects', value)
    return list.map((fields, i) => new DataRecord(`${this.where}: ${key}[${i}]`, fields))
  }

  /** Throws ERR_BAD_FILE: a field is not as it is expected. */
  fail(key: string, expected: string, got: unknown): never {
    throw badFile(this.where, `${key}: expected ${expected}, got ${show(got)}`)
  }
}

/**
 * The records of a file, at least one. A `.csv` is of MMLU's original release; a `.txt` is one
 * record with the field `text`.
 * @throws MoeppError ERR_NOT_FOUND, ERR_BAD_FILE
 */
export async function readRecords(path: string): Promise<DataRecord[]> {
  const text = await readText(path, MAX_FILE_BYTES)
  const kind = extname(path).toLowerCase()
  const records =
    kind === '.txt'
      ? [new DataRecord(path, { text })]
      : kind === '.csv'
        ? csvRecords(text, path)
        : jsonRecords(text, path)
  if (records.length === 0) throw badFile(path, 'expected a line at least, got an empty file')
  return records
}

/** The lines of a small text, such as PIQA's labels, which are in a file of their own. */
export async function readLines(path: string): Promise<string[]> {
  return (await readText(path, MAX_FILE_BYTES)).trimEnd().split(/\r?\n/)
}

function jsonRecords(text: string, path: string): DataRecord[] {
  const records: DataRecord[] = []
  for (const [i, line] of text.split('\n').entries()) {
    if (line.trim() === '') continue
    const where = `${path}: line ${i + 1}`
    const fields = parseJson(line, where)
    if (!isObject(fields)) throw badFile(where, `expected an object, got ${show(fields)}`)
    records.push(new DataRecord(where, fields))
  }
  return records
}

/** MMLU's: question, four choices, the answer's letter. The file's name has the subject. */
function csvRecords(text: string, path: string): DataRecord[] {
  const subject = basename(path, extname(path)).replace(/_(test|dev|val)$/, '')
  return csvRows(text, path).map(({ line, cells }) => {
    const where = `${path}: line ${line}`
    const [question, answer] = [cells[0]!, cells.at(-1)!]
    if (cells.length !== 6)
      throw badFile(
        where,
        `expected a question, four choices and an answer, got ${cells.length} cells`,
      )
    const index = 'ABCD'.indexOf(answer)
    if (answer.length !== 1 || index < 0)
      throw badFile(where, `answer: expected A, B, C or D, got ${show(answer)}`)
    return new DataRecord(where, { question, subject, choices: cells.slice(1, 5), answer: index })
  })
}

interface CsvRow {
  /** Of its beginning. */
  readonly line: number
  readonly cells: string[]
}

/** A cell: in quotes, where two stand for one, or bare. Then what ends it. */
const CELL = /(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r?\n|$)/y

/** Rows by RFC 4180. */
function csvRows(text: string, path: string): CsvRow[] {
  const rows: CsvRow[] = []
  let row: CsvRow = { line: 1, cells: [] }
  let line = 1
  for (let at = 0; at < text.length; ) {
    CELL.lastIndex = at
    const [found, quoted, bare, end] = CELL.exec(text) ?? []
    if (found === undefined) throw badFile(`${path}: line ${line}`, 'not a cell of CSV')
    row.cells.push(quoted === undefined ? bare! : quoted.replaceAll('""', '"'))
    line += found.split('\n').length - 1
    at += found.length
    if (end === ',' && at < text.length) continue
    // A comma at the very end begins an empty cell.
    if (end === ',') row.cells.push('')
    if (row.cells.length > 1 || row.cells[0] !== '') rows.push(row)
    row = { line, cells: [] }
  }
  return rows
}

export function badFile(where: string, problem: string): MoeppError {
  return new MoeppError('ERR_BAD_FILE', `${where}: ${problem}`)
}
