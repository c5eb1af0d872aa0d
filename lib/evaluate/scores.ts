/** Scores of a task from the answers to its items: process_results of the harness's api/task.py. */

import type { Encoding, Pair } from './encoding.js'
import { countWords } from './forms.js'
import {
  accuracyOf,
  type Likelihood,
  type Metric,
  meanMetric,
  perplexityMetric,
  textMetrics,
} from './metrics.js'
import type { Shots } from './shots.js'
import type { QuestionTask, TaskDocument, TextTask } from './tasks.js'

/** Of each pair of an item. */
export type Answer = readonly Likelihood[]

export interface TaskReport {
  readonly task: string
  readonly file: string
  readonly documents: number
  /** Prompts that lost their first tokens because the context is too short. */
  readonly cutPrompts: number
  readonly metrics: readonly Metric[]
}

/** An item's name and its texts. */
interface Work {
  readonly id: string
  readonly pairs: readonly Pair[]
}

export class QuestionScore {
  readonly #task: QuestionTask
  readonly #documents: readonly TaskDocument[]
  readonly #shots: Shots
  readonly #signal: AbortSignal
  readonly #answers: Answer[] = []
  #cut = 0

  constructor(
    task: QuestionTask,
    documents: readonly TaskDocument[],
    shots: Shots,
    signal: AbortSignal,
  ) {
    this.#task = task
    this.#documents = documents
    this.#shots = shots
    this.#signal = signal
  }

  get items(): number {
    return this.#documents.length
  }

  get isSubject(): boolean {
    return this.#documents[0]?.question.subject !== undefined
  }

  *work(encoding: Encoding): Generator<Work, void> {
    for (const [i, document] of this.#documents.entries()) {
      const before = this.#shots.before(document)
      const { where } = document.record
      const pairs = document.question.requests.map(({ context, continuation }) =>
        encoding.pair({ context: before + context, continuation }, where),
      )
      if (pairs.some(({ wasCut }) => wasCut)) this.#cut++
      const tokens = pairs.map(({ context, continuation }) => ({ context, continuation }))
      yield { id: `${this.#task.name}:${i}`, pairs: tokens }
    }
  }

  add(answer: Answer): void {
    this.#answers.push(answer)
  }

  async report(): Promise<TaskReport> {
    const { name, file } = this.#task
    const metrics = await this.#metrics()
    return { task: name, file, documents: this.items, cutPrompts: this.#cut, metrics }
  }

  async #metrics(): Promise<Metric[]> {
    const { scoring } = this.#task.form
    if (scoring === 'perplexity and acc') {
      const [logprobs, greedy] = [this.#of(a => a[0]!.logprob), this.#of(a => +a[0]!.isGreedy)]
      const perplexity = await perplexityMetric('perplexity', logprobs, this.#signal)
      return [perplexity, meanMetric('acc', greedy)]
    }
    const logprobs = (answer: Answer) => answer.map(({ logprob }) => logprob)
    const acc = this.#of((answer, { gold }) => accuracyOf(logprobs(answer), gold))
    const norm = this.#of((answer, { gold, lengths }) =>
      accuracyOf(
        logprobs(answer).map((logprob, i) => logprob / lengths[i]!),
        gold,
      ),
    )
    const named = [meanMetric('acc', acc), meanMetric('acc_norm', norm)]
    return scoring === 'acc' ? named.slice(0, 1) : named
  }

  #of(value: (answer: Answer, question: TaskDocument['question']) => number): number[] {
    return this.#answers.map((answer, i) => value(answer, this.#documents[i]!.question))
  }
}

export class TextScore {
  readonly isSubject = false
  readonly #task: TextTask
  readonly #texts: readonly string[]
  readonly #windows: readonly (readonly Pair[])[]
  /** Of each item, the number of its text. */
  readonly #textOf: readonly number[]
  /** Of each text. */
  readonly #logprobs: number[]
  #added = 0

  constructor(task: TextTask, texts: readonly string[], windows: readonly (readonly Pair[])[]) {
    this.#task = task
    this.#texts = texts
    this.#windows = windows
    this.#textOf = windows.flatMap((own, i) => own.map(() => i))
    this.#logprobs = texts.map(() => 0)
  }

  get items(): number {
    return this.#textOf.length
  }

  *work(): Generator<Work, void> {
    for (const [i, windows] of this.#windows.entries()) {
      for (const [j, window] of windows.entries())
        yield { id: `${this.#task.name}:${i}:${j}`, pairs: [window] }
    }
  }

  add(answer: Answer): void {
    const text = this.#textOf[this.#added++]!
    this.#logprobs[text]! += answer[0]!.logprob
  }

  async report(): Promise<TaskReport> {
    const { name, file } = this.#task
    const sizes = this.#texts.map((text, i) => ({
      tokens: this.#windows[i]!.reduce((sum, { continuation }) => sum + continuation.length, 0),
      words: countWords(text),
      bytes: Buffer.byteLength(text),
    }))
    const metrics = textMetrics(this.#logprobs, sizes)
    return { task: name, file, documents: this.#texts.length, cutPrompts: 0, metrics }
  }
}
