/**
 * An evaluation: tasks as items that are scored one by one, several at once, and what they come to.
 * `moepp eval` reads the tasks, runs the items and keeps the answers.
 */

import { createHash } from 'node:crypto'
import { integer } from '../base/option-checks.js'
import type { Model } from '../generation/model.js'
import { Encoding, type Pair } from './encoding.js'
import { pooledMetric } from './metrics.js'
import { type Answer, QuestionScore, type TaskReport, TextScore } from './scores.js'
import { Shots } from './shots.js'
import type { QuestionTask, Task, TaskDocument } from './tasks.js'

export type { Answer, TaskReport } from './scores.js'

/** The part of a model that is needed. */
export type Scorer = Pick<Model, 'score' | 'tokenizer' | 'contextLength'>

type TaskScore = QuestionScore | TextScore

export interface EvaluationOptions {
  /** Examples before each question. */
  readonly shots: number
  /** Tasks whose documents are the examples. LAMBADA takes its own, as the harness does. */
  readonly examples: readonly Task[]
  /** Of the choice of examples. */
  readonly seed: number
  /** Documents of each task, from the first; undefined: all. */
  readonly limit?: number | undefined
  /** Tokens of a text that each window predicts but the first; undefined: as many as it holds. */
  readonly stride?: number | undefined
  /** As in GenerateOptions. */
  readonly addSpecialTokens: boolean
  /** All else that decides a result: the model, say. */
  readonly setup: string
  readonly signal: AbortSignal
}

/** Work that is done as one: a question with all its choices, or a window of a text. */
export interface Item {
  readonly id: string
  /** Equal hashes, equal answers. */
  readonly requestHash: string
  readonly pairs: readonly Pair[]
  readonly part: TaskScore
}

export class Evaluation {
  readonly #model: Scorer
  readonly #options: EvaluationOptions
  readonly #encoding: Encoding
  readonly #scores: TaskScore[] = []

  private constructor(model: Scorer, options: EvaluationOptions) {
    this.#model = model
    this.#options = options
    const { tokenizer, contextLength } = model
    this.#encoding = new Encoding(tokenizer, contextLength, options.addSpecialTokens)
  }

  /**
   * Whole texts are encoded, so that the number of items is known.
   * @throws RangeError; MoeppError ERR_BAD_FILE, ERR_BAD_TOKENIZER, ERR_ABORTED
   */
  static async of(model: Scorer, tasks: readonly Task[], options: EvaluationOptions) {
    const evaluation = new Evaluation(model, options)
    for (const task of tasks) evaluation.#scores.push(await evaluation.#scoreOf(task))
    return evaluation
  }

  /** Number of items. */
  get total(): number {
    return this.#scores.reduce((sum, { items }) => sum + items, 0)
  }

  /**
   * The items, once. Their prompts are encoded as they are asked for.
   * @throws MoeppError ERR_BAD_PROMPT
   */
  async *items(): AsyncGenerator<Item, void> {
    for (const part of this.#scores) {
      for (const { id, pairs } of part.work(this.#encoding)) {
        const hash = createHash('sha256').update(this.#options.setup).update(JSON.stringify(pairs))
        yield { id, pairs, part, requestHash: hash.digest('hex').slice(0, 32) }
      }
    }
  }

  /** @throws as Model.score */
  async answer({ pairs }: Item): Promise<Answer> {
    const { signal } = this.#options
    const scored = pairs.map(async ({ context, continuation }) => {
      const { logprob, greedy } = await this.#model.score(context, continuation, { signal })
      return { logprob, isGreedy: greedy.every(Boolean) }
    })
    return Promise.all(scored)
  }

  /** Counts an item's answer; in the items' order. */
  add({ part }: Item, answer: Answer): void {
    part.add(answer)
  }

  /** After all answers: the tasks, and MMLU as a whole if there are several subjects. */
  async report(): Promise<TaskReport[]> {
    const reports: TaskReport[] = []
    for (const score of this.#scores) reports.push(await score.report())
    const subjects = reports.filter((_, i) => this.#scores[i]!.isSubject)
    return subjects.length > 1 ? [...reports, wholeOf(subjects)] : reports
  }

  async #scoreOf(task: Task): Promise<TaskScore> {
    const { limit, signal, stride, seed, shots } = this.#options
    const { contextLength } = this.#model
    if (!task.form) {
      const step = integer(1, contextLength)(stride ?? contextLength, 'stride')
      const texts = task.documents.slice(0, limit)
      const windows: Pair[][] = []
      for (const text of texts) windows.push(await this.#encoding.windows(text, step, signal))
      return new TextScore(task, texts, windows)
    }
    const pool = shots === 0 ? [] : this.#poolOf(task)
    const documents = task.documents.slice(0, limit)
    return new QuestionScore(task, documents, new Shots(task, pool, shots, seed), signal)
  }

  #poolOf(task: QuestionTask): readonly TaskDocument[] {
    const { examples } = this.#options
    const subject = task.documents[0]!.question.subject
    const own = examples.find(
      (each): each is QuestionTask =>
        each.form === task.form && each.documents[0]!.question.subject === subject,
    )
    if (own) return own.documents
    if (task.form.name === 'lambada') return task.documents
    throw new RangeError(`shotsFrom: expected a file with examples of ${task.name}, got none`)
  }
}

/** MMLU as a whole: each subject counts by its number of questions. */
function wholeOf(subjects: readonly TaskReport[]): TaskReport {
  const sum = (count: (report: TaskReport) => number) =>
    subjects.reduce((total, report) => total + count(report), 0)
  const parts = subjects.map(({ metrics, documents }) => ({ metric: metrics[0]!, documents }))
  return {
    task: 'mmlu',
    file: '',
    documents: sum(({ documents }) => documents),
    cutPrompts: sum(({ cutPrompts }) => cutPrompts),
    metrics: [pooledMetric('acc', parts)],
  }
}
