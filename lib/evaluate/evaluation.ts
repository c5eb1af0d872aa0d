/**
 * An evaluation: tasks as items that are scored one by one, several at once, and what they come to.
 * `moepp eval` reads the tasks, runs the items and keeps the answers.
 */

import { createHash } from 'node:crypto'
import type { Model } from '../generation/model.js'
import { Encoding, type Pair } from './encoding.js'
import { pooledMetric } from './metrics.js'
import { type Answer, QuestionScore, type TaskReport, TextScore } from './scores.js'
import { type ShotOptions, shotsOf } from './shots.js'
import type { Task } from './tasks.js'

export type { Answer, TaskReport } from './scores.js'

/** The part of a model that is needed. */
export type Scorer = Pick<Model, 'score' | 'tokenizer' | 'contextLength'>

type TaskScore = QuestionScore | TextScore

export interface EvaluationOptions extends ShotOptions {
  /** Documents of each task, from the first; undefined: all. */
  readonly limit?: number | undefined
  /**
   * Tokens of a text that each window predicts but the first, at most the context's length;
   * undefined: as many.
   */
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
   * Finds options that do not fit the tasks, before there is a model.
   * @throws RangeError; MoeppError ERR_BAD_FILE
   */
  static check(tasks: readonly Task[], options: ShotOptions & { readonly stride?: number }): void {
    const questions = tasks.filter(task => task.form !== undefined)
    if (options.shots > 0 && questions.length === 0)
      throw new RangeError(`shots: expected 0 for whole texts, got ${options.shots}`)
    if (options.stride !== undefined && questions.length === tasks.length)
      throw new RangeError(`stride: expected with a whole text, got ${options.stride}`)
    for (const task of questions) shotsOf(task, options)
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
    const { limit, signal, stride = this.#model.contextLength } = this.#options
    if (!task.form) {
      const texts = task.documents.slice(0, limit)
      const windows: Pair[][] = []
      for (const text of texts) windows.push(await this.#encoding.windows(text, stride, signal))
      return new TextScore(task, texts, windows)
    }
    const documents = task.documents.slice(0, limit)
    return new QuestionScore(task, documents, shotsOf(task, this.#options), signal)
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
