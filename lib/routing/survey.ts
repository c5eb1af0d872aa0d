/** Routes a whole text through a model, window by window. Memory does not grow with the text. */
import { MoeppError } from '../errors.js'
import { throwIfAborted } from '../generation/job.js'
import type { Model } from '../generation/model.js'
import type { ForwardResult } from '../generation/results.js'
import type { ModelSpec } from '../program/model-spec.js'
import { costOf } from './cost.js'
import { captureNames, surveyLayers } from './survey-layers.js'
import { Tally } from './tally.js'
import type { Subject, TokenRows } from './types.js'
import { batches, type Window, windows } from './windows.js'

export interface SurveyOptions {
  readonly model: Model
  readonly spec: ModelSpec
  /** Of the KV cache: `runner.cache.dtype`. */
  readonly cacheDtype: 'f32' | 'bf16'
  readonly names: Pick<Subject, 'model' | 'file' | 'dtype'>
  /** UTF-8 text in pieces of any size. */
  readonly text: AsyncIterable<string>
  /** At most the context's length. */
  readonly windowTokens: number
  /**
   * Each window begins with the tokens that the checkpoint puts in front of a text. These are not
   * counted: they are no tokens of the text.
   */
  readonly addSpecialTokens: boolean
  /** Tokens of the text, from the first. Default: all. */
  readonly limitTokens?: number
  readonly signal: AbortSignal
  /** Each window's rows, in order; the next ones wait for it. */
  readonly onRows?: (rows: TokenRows) => void | Promise<void>
  /** `onRows` gets windows until they have so many tokens of the text. Default: all. */
  readonly rowTokens?: number
  /** Characters and tokens that are done. */
  readonly onProgress?: (characters: number, tokens: number) => void
}

/**
 * Tokens of the windows that are computed together: some full steps of a CPU, one of a GPU. Their
 * captured rows are held twice, 37 KB a token with 48 layers of 192 experts.
 */
const BATCH_TOKENS = 2048

/**
 * The subject's cost is computed, not measured: its ceilings, `predicted` and `measured` are null.
 *
 * @throws MoeppError ERR_ABORTED, ERR_BAD_PROMPT if the text has no token, ERR_UNSUPPORTED if no
 *   layer has experts, what the model throws; RangeError for a wrong windowTokens
 */
export async function survey(options: SurveyOptions): Promise<Subject> {
  const { model, spec, names, windowTokens, cacheDtype, addSpecialTokens } = options
  const { tokenizer } = model
  const begin = addSpecialTokens ? tokenizer.beginIds : []
  checkWindow(windowTokens, begin.length, model.contextLength)
  const layers = await surveyLayers(spec)
  if (layers.length === 0) {
    throw new MoeppError(
      'ERR_UNSUPPORTED',
      `${names.model}: no layer has experts, so there is no routing to look at`,
    )
  }
  const tally = new Tally(model, layers, { begin: begin.length, windowTokens })
  const each = windows(tokenizer, options.text, begin, windowTokens, options.limitTokens)
  await run(options, batches(each, windowTokens, BATCH_TOKENS), captureNames(layers), tally)
  if (tally.tokens === 0)
    throw new MoeppError('ERR_BAD_PROMPT', `${names.file}: the text has no token`)
  const numbers = tally.result()
  return {
    ...names,
    device: model.device.name,
    windowTokens,
    ...numbers,
    cost: costOf({ spec, layers: numbers.layers, windowTokens, cacheDtype }),
  }
}

function checkWindow(windowTokens: number, begin: number, contextLength: number): void {
  const isCount = Number.isInteger(windowTokens)
  if (isCount && windowTokens > begin && windowTokens <= contextLength) return
  throw new RangeError(
    `windowTokens: expected an integer from ${begin + 1} to ${contextLength}, got ${windowTokens}`,
  )
}

/** While one batch is counted, the next is computed. */
async function run(
  { model, signal, onRows, rowTokens = Number.POSITIVE_INFINITY, onProgress }: SurveyOptions,
  each: AsyncIterable<Window[]>,
  capture: readonly string[],
  tally: Tally,
): Promise<void> {
  const end = new AbortController()
  const both = AbortSignal.any([signal, end.signal])
  let computing: Promise<unknown> = Promise.resolve()
  const compute = (batch: readonly Window[]) => {
    const ids = batch.map(window => window.ids)
    const results = model.forward(ids, { logits: false, capture, signal: both })
    // Keeps no results. The error reaches the caller that waits for them.
    computing = Promise.allSettled([computing, results]).then(() => {})
    return results
  }
  const count = async (batch: readonly Window[], results: Promise<ForwardResult[]>) => {
    for (const [i, { captured }] of (await results).entries()) {
      const window = batch[i]!
      const texts = tally.add(window, captured)
      if (onRows && window.first < rowTokens) await onRows(tally.rows(window, captured, texts))
      onProgress?.(window.characters, tally.tokens)
    }
  }
  try {
    let last: { batch: Window[]; results: Promise<ForwardResult[]> } | undefined
    for await (const batch of each) {
      throwIfAborted(signal)
      const next = { batch, results: compute(batch) }
      if (last) await count(last.batch, last.results)
      last = next
    }
    if (last) await count(last.batch, last.results)
    throwIfAborted(signal)
  } finally {
    end.abort()
    await computing
  }
}
