/** One run of `moepp eval`: what an earlier run has left, then the rest, several items at once. */

import { stat } from 'node:fs/promises'
import type { Answer, Evaluation, Item } from '../evaluate/evaluation.js'
import { type BatchResult, ResultFile } from './batch-output.js'
import type { Work } from './command.js'
import { formatCount, formatNumber } from './format.js'
import { inOrder } from './in-order.js'
import type { Terminal } from './terminal.js'

interface RunParts extends Work {
  readonly evaluation: Evaluation
  readonly results: EvalResults
  /** Ends the work if it fails. */
  readonly stop: AbortController
  readonly terminal: Terminal
}

export class EvalRun {
  readonly #parts: RunParts
  #done = 0

  constructor(parts: RunParts) {
    this.#parts = parts
  }

  /** Resolves when the evaluation has all answers. */
  async finish(signal: AbortSignal): Promise<void> {
    const { evaluation, results, progress, stop, interrupt, terminal } = this.#parts
    const items = evaluation.items()
    this.#done = await results.resume(items, evaluation)
    try {
      const first = await items.next()
      if (first.done) return
      this.#show()
      await inOrder(
        first.value,
        items,
        async item => ({ item, answer: await evaluation.answer(item) }),
        answered => this.#keep(answered),
        error => stop.abort(error),
      )
      signal.throwIfAborted()
    } catch (error) {
      progress.stop()
      if (interrupt.signal.aborted && results.areKept)
        terminal.note(
          `${formatNumber(this.#done, 'item')} done; the same command continues from there`,
        )
      throw error
    }
  }

  async #keep({ item, answer }: { readonly item: Item; readonly answer: Answer }): Promise<void> {
    const { evaluation, results } = this.#parts
    await results.write(item, answer)
    evaluation.add(item, answer)
    this.#done++
    this.#show(item.id)
  }

  #show(detail = ''): void {
    const { evaluation, progress } = this.#parts
    progress.update('Evaluating', this.#done, evaluation.total, detail, formatCount)
  }
}

/** The file of --out, if there is one. */
export class EvalResults {
  readonly #file: ResultFile | undefined

  private constructor(file: ResultFile | undefined) {
    this.#file = file
  }

  /** `inputs` are paths of files that exist. */
  static async open(path: string | undefined, inputs: readonly string[]): Promise<EvalResults> {
    if (path === undefined) return new EvalResults(undefined)
    const files = await Promise.all(inputs.map(input => stat(input)))
    const source = { option: 'eval', things: 'items', inputs: files }
    return new EvalResults(await ResultFile.open(path, source))
  }

  get areKept(): boolean {
    return this.#file !== undefined
  }

  /** Takes the items that have an answer already off `items`; resolves to their number. */
  async resume(items: AsyncIterator<Item, void>, evaluation: Evaluation): Promise<number> {
    const take = (item: Item, result: BatchResult) => {
      const answer = answerOf(result as StoredAnswer, item)
      if (answer) evaluation.add(item, answer)
      return answer !== undefined
    }
    const place = ({ id }: Item) => id
    const resuming = { requests: items, input: 'the evaluation', place, take }
    return (await this.#file?.resume(resuming))?.done ?? 0
  }

  async write({ id, requestHash }: Item, answer: Answer): Promise<void> {
    const logprobs = answer.map(({ logprob }) => logprob)
    const greedy = answer.map(({ isGreedy }) => isGreedy)
    const stored: StoredAnswer = { id, requestHash, logprobs, greedy }
    await this.#file?.write(`${JSON.stringify(stored)}\n`)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file?.close()
  }
}

/** A line of the file. -Infinity, which JSON has no number for, is null. */
interface StoredAnswer extends BatchResult {
  readonly logprobs?: readonly (number | null)[]
  readonly greedy?: readonly boolean[]
}

function answerOf({ logprobs, greedy }: StoredAnswer, { pairs }: Item): Answer | undefined {
  const isNumber = (x: unknown) => x === null || typeof x === 'number'
  if (!isList(logprobs, pairs.length) || !logprobs.every(isNumber)) return undefined
  if (!isList(greedy, pairs.length)) return undefined
  return pairs.map((_, i) => ({
    logprob: logprobs[i] ?? Number.NEGATIVE_INFINITY,
    isGreedy: greedy[i] === true,
  }))
}

function isList<T>(value: readonly T[] | undefined, length: number): value is readonly T[] {
  return Array.isArray(value) && value.length === length
}
