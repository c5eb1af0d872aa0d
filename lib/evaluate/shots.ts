/** Few-shot examples, chosen as the harness chooses them: lm_eval/api/samplers.py. */

import { isDeepStrictEqual } from 'node:util'
import { MoeppError } from '../errors.js'
import { PythonRandom } from './python-random.js'
import type { QuestionTask, Task, TaskDocument } from './tasks.js'

export interface ShotOptions {
  /** Examples before each question. */
  readonly shots: number
  /** Tasks whose documents are the examples. LAMBADA takes its own, as the harness does. */
  readonly examples: readonly Task[]
  /** Of the choice of examples. */
  readonly seed: number
}

/**
 * Those of a task.
 * @throws RangeError if no file has any; MoeppError ERR_BAD_FILE if there are too few
 */
export function shotsOf(task: QuestionTask, { shots, examples, seed }: ShotOptions): Shots {
  const pool = shots === 0 ? [] : poolOf(task, examples)
  return new Shots(task, pool, shots, seed)
}

function poolOf(task: QuestionTask, examples: readonly Task[]): readonly TaskDocument[] {
  const subjectOf = ({ documents }: QuestionTask) => documents[0]!.question.subject
  const isOwn = (other: Task): other is QuestionTask =>
    other.form !== undefined && other.form === task.form && subjectOf(other) === subjectOf(task)
  const own = examples.filter(isOwn).flatMap(({ documents }) => documents)
  if (own.length > 0) return own
  if (task.form.name === 'lambada') return task.documents
  throw new RangeError(`shotsFrom: expected a file with examples of ${task.name}, got none`)
}

export class Shots {
  readonly #count: number
  readonly #pool: readonly TaskDocument[]
  readonly #task: QuestionTask
  readonly #random: PythonRandom

  /**
   * `pool` are the documents that examples are taken from.
   * @throws MoeppError ERR_BAD_FILE if they are too few
   */
  constructor(task: QuestionTask, pool: readonly TaskDocument[], count: number, seed: number) {
    this.#task = task
    this.#pool = pool
    this.#count = count
    this.#random = new PythonRandom(seed)
    const least = count === 0 ? 0 : count + (task.form.sampling === 'random others' ? 1 : 0)
    if (pool.length < least) throw this.#tooFew(least, pool.length)
  }

  /** The prompt's text before the question. Called for each document once, in order. */
  before(document: TaskDocument): string {
    const examples = this.#count === 0 ? [] : this.#examples(document)
    const { description } = document.question
    return description + examples.map(({ question }) => question.example).join('')
  }

  #examples(document: TaskDocument): readonly TaskDocument[] {
    const count = this.#count
    const { sampling } = this.#task.form
    if (sampling === 'first') return this.#pool.slice(0, count)
    if (sampling === 'random') return this.#random.sample(this.#pool, count)
    // One more is drawn, in case the question itself is among them.
    const others = this.#random
      .sample(this.#pool, count + 1)
      .filter(({ record }) => !isDeepStrictEqual(record.fields, document.record.fields))
    if (others.length < count) throw this.#tooFew(count, others.length)
    return others.slice(0, count)
  }

  #tooFew(expected: number, got: number): MoeppError {
    const message = `${this.#task.name}: expected ${expected} documents for examples, got ${got}`
    return new MoeppError('ERR_BAD_FILE', message)
  }
}
