/** The tasks of data files: which form a file has, and its documents. */

import { existsSync } from 'node:fs'
import { basename, extname } from 'node:path'
import { wrong } from '../base/option-checks.js'
import { FORMS, type Form, formOf, type Question } from './forms.js'
import { badFile, DataRecord, readLines, readRecords } from './records.js'

/** A file of a task, and the name of its form if the user says it. */
export interface TaskFile {
  readonly path: string
  readonly name?: string
}

export interface QuestionTask {
  readonly name: string
  readonly file: string
  readonly form: Form
  readonly documents: readonly TaskDocument[]
}

export interface TaskDocument {
  readonly record: DataRecord
  readonly question: Question
}

/** Whole texts, whose perplexity is wanted. */
export interface TextTask {
  readonly name: string
  readonly file: string
  readonly form: undefined
  readonly documents: readonly string[]
}

export type Task = QuestionTask | TextTask

/** The name of the form of whole texts. */
const TEXT = 'text'

/** The names that a user may give a file. */
export const TASK_NAMES = [...FORMS.flatMap(({ name, aliases }) => [name, ...aliases]), TEXT]

/** `winogrande=FILE` says the form; `FILE` leaves it to the fields. */
export function taskFile(argument: string): TaskFile {
  const [, name, path] = /^([a-z]\w*)=(.+)$/s.exec(argument) ?? []
  if (name === undefined) return { path: argument }
  if (!TASK_NAMES.includes(name))
    throw wrong('tasks', `one of ${TASK_NAMES.join(', ')}`, name, 'string')
  return { path: path!, name }
}

/**
 * The tasks of a file: one, or one for each of MMLU's subjects. Every line is checked.
 * @throws MoeppError ERR_NOT_FOUND, ERR_BAD_FILE
 */
export async function readTasks({ path, name }: TaskFile): Promise<Task[]> {
  const records = await readRecords(path)
  const form = name === undefined ? guessed(path, records[0]!) : named(name)
  const file = basename(path)
  if (!form) {
    const documents = records.map(record => record.text('text'))
    return [{ name: TEXT, file, form, documents }]
  }
  const all = form.name === 'piqa' ? await withLabels(path, records) : records
  const documents = all.map(record => ({ record, question: form.read(record) }))
  return Array.from(bySubject(documents), ([subject, documents]) => {
    const own = subject === undefined ? (name ?? form.name) : `${form.name}_${subject}`
    return { name: own, file, form, documents }
  })
}

function bySubject(documents: readonly TaskDocument[]): Map<string | undefined, TaskDocument[]> {
  const subjects = new Map<string | undefined, TaskDocument[]>()
  for (const document of documents) {
    const { subject } = document.question
    const others = subjects.get(subject)
    if (others) others.push(document)
    else subjects.set(subject, [document])
  }
  return subjects
}

function named(name: string): Form | undefined {
  return FORMS.find(form => form.name === name || form.aliases.includes(name))
}

/** Texts alone are LAMBADA's if the file is called so, and whole texts otherwise. */
function guessed(path: string, first: DataRecord): Form | undefined {
  if (!first.has('text')) return formOf(first)
  return /lambada/i.test(basename(path)) ? named('lambada') : undefined
}

/** PIQA's original release has the labels in a file beside: dev.jsonl, dev-labels.lst. */
async function withLabels(path: string, records: readonly DataRecord[]) {
  const beside = `${path.slice(0, path.length - extname(path).length)}-labels.lst`
  if (records[0]!.has('label') || !existsSync(beside)) return records
  const labels = await readLines(beside)
  if (labels.length !== records.length)
    throw badFile(beside, `expected ${records.length} labels, got ${labels.length}`)
  return records.map(
    ({ where, fields }, i) => new DataRecord(where, { ...fields, label: labels[i] }),
  )
}
