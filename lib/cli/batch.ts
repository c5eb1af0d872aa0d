/** `moepp generate --prompts FILE`: continues each prompt of a file. */

import { setMaxListeners } from 'node:events'
import { MoeppError } from '../errors.js'
import type { Model } from '../generation/model.js'
import type { GenerateResult } from '../generation/results.js'
import type { GenerateOptions } from '../options/generate.js'
import { type BatchRequest, PromptFile } from './batch-input.js'
import { type BatchResult, ResultFile, type Resumed } from './batch-output.js'
import { BatchProgress } from './batch-progress.js'
import type { Work } from './command.js'
import { checkUsage } from './errors.js'
import { formatNumber } from './format.js'
import type { GenerateFlags } from './generate.js'
import { checkSequences } from './generate-checks.js'
import { ModelSource, type Resolve } from './generate-model.js'
import { generateOptions, loadOptions } from './generate-options.js'
import { plainRouting } from './generate-report.js'
import { inOrder } from './in-order.js'
import type { Terminal } from './terminal.js'

type BatchFlags = GenerateFlags & { readonly model: string; readonly prompts: string }

/** Standard error names the first wrong lines; the results name all. */
const MOST_FAULTS_SHOWN = 10

/** Resolves to the exit code: 1 if the result of a line is an error. */
export async function generateBatch(
  flags: BatchFlags,
  terminal: Terminal,
  { progress, interrupt }: Work,
): Promise<number> {
  const stop = new AbortController()
  const signal = AbortSignal.any([interrupt.signal, terminal.closed, stop.signal])
  const options = generateOptions(flags)
  const source = new ModelSource(flags.model, flags, progress, signal)
  source.checkEarly(options)
  using input = new PromptFile(flags.prompts, () => terminal.stdin)
  signal.addEventListener('abort', () => input.close())
  // Each prompt in flight listens too; Node would take more than ten for a leak.
  setMaxListeners(0, signal)
  await using output = flags.out === undefined ? undefined : await openOutput(flags.out, input)
  const requests = input.requests(setupOf(flags))
  const place = ({ line }: BatchRequest) => `line ${line} of ${input.name}`
  const resuming = { requests, input: input.name, place }
  const resumed = (await output?.file.resume(resuming)) ?? { done: 0, failed: 0 }
  const first = await requests.next()
  if (first.done) return nothingLeft(resumed, terminal)
  const { resolve } = await source.open()
  checkUsage(() => resolve(options))
  await using model = await source.load()
  // On a terminal the results would be written over the line of progress.
  const isShown = terminal.stderrIsTerminal && !(terminal.stdoutIsTerminal && !output)
  const total = isShown ? await input.count() : undefined
  using shown = new BatchProgress({ terminal, isShown, total, before: resumed.done })
  const write = (text: string) => output?.file.write(text) ?? terminal.write(text)
  const batch = new Batch({
    input: input.name,
    model,
    options,
    resolve,
    signal,
    shown,
    write,
    terminal,
  })
  try {
    await inOrder(
      first.value,
      requests,
      request => batch.answer(request),
      answer => batch.write(answer),
      error => stop.abort(error),
    )
    signal.throwIfAborted()
  } catch (error) {
    shown.clear()
    if (interrupt.signal.aborted && output)
      terminal.note(
        `${formatNumber(shown.done, 'prompt')} done; the same command continues from there`,
      )
    throw error
  }
  shown.clear()
  terminal.figures(`${formatNumber(shown.done, 'prompt')}, ${batch.failed} failed, ${shown.speed}`)
  return resumed.failed + batch.failed > 0 ? 1 : 0
}

async function openOutput(path: string, input: PromptFile) {
  const inputs = [await input.stat()]
  const file = await ResultFile.open(path, { option: '--prompts', things: 'prompts', inputs })
  return { file, [Symbol.asyncDispose]: () => file.close() }
}

/** Loads no model. */
function nothingLeft({ done, failed }: Resumed, terminal: Terminal): number {
  terminal.note(
    done === 0
      ? 'no prompts'
      : `done before: ${formatNumber(done, 'prompt')}; nothing is left to do`,
  )
  return failed > 0 ? 1 : 0
}

/**
 * Everything but a line that decides its result. Device and threads are left out: a resumed run may
 * use others.
 */
function setupOf(flags: BatchFlags): string {
  const { model } = flags
  const { dtype, activationDtype, kvCacheDtype, contextLength, revision } = loadOptions(flags)
  const { logitBias, ...options } = generateOptions(flags)
  const bias = logitBias && [...(logitBias as ReadonlyMap<number, number>)]
  const load = { model, dtype, activationDtype, kvCacheDtype, contextLength, revision }
  return JSON.stringify({ ...load, ...options, bias })
}

interface BatchParts {
  /** Its name. */
  readonly input: string
  readonly model: Model
  /** Of the command line; a line's own replace them. */
  readonly options: GenerateOptions
  readonly resolve: Resolve
  readonly signal: AbortSignal
  readonly shown: BatchProgress
  readonly write: (text: string) => Promise<void>
  readonly terminal: Terminal
}

interface Answer {
  readonly request: BatchRequest
  readonly results?: readonly GenerateResult[]
  readonly fault?: { readonly code?: string; readonly message: string }
}

class Batch {
  readonly #parts: BatchParts
  #failed = 0

  constructor(parts: BatchParts) {
    this.#parts = parts
  }

  get failed(): number {
    return this.#failed
  }

  /** @throws the signal's reason, or an error that concerns more than this line */
  async answer(request: BatchRequest): Promise<Answer> {
    const { model, options, resolve, signal } = this.#parts
    const { work, fault } = request
    if (!work) return { request, fault: { message: fault! } }
    try {
      const own = { ...options, ...work.options }
      checkSequences(resolve(own))
      const results = [await model.generate(work.prompt, { ...own, signal })].flat()
      if (results.some(({ finishReason }) => finishReason === 'abort')) signal.throwIfAborted()
      return { request, results }
    } catch (error) {
      if (signal.aborted) throw signal.reason
      const found = faultOfLine(error)
      if (!found) throw error
      return { request, fault: found }
    }
  }

  async write({ request, results = [], fault }: Answer): Promise<void> {
    const { id, requestHash, line } = request
    const texts = results.map(plainResult)
    const content = texts.length === 1 ? texts[0] : { results: texts }
    const result: BatchResult = fault
      ? { id, requestHash, error: { line, ...fault } }
      : { id, requestHash, ...content }
    await this.#parts.write(`${JSON.stringify(result)}\n`)
    if (fault) this.#report(line, fault.message)
    this.#parts.shown.add(results.reduce((sum, { usage }) => sum + usage.generatedTokens, 0))
  }

  #report(line: number, message: string): void {
    const { terminal, input, shown } = this.#parts
    this.#failed++
    if (this.#failed > MOST_FAULTS_SHOWN + 1) return
    shown.clear()
    if (this.#failed <= MOST_FAULTS_SHOWN) terminal.error(`${input}:${line}: ${message}`)
    else terminal.error('more lines have errors; the results name them')
  }
}

/** A wrong prompt or option. Anything else concerns all lines. */
function faultOfLine(error: unknown): Answer['fault'] {
  if (error instanceof MoeppError)
    return error.code === 'ERR_BAD_PROMPT'
      ? { code: error.code, message: error.message }
      : undefined
  if (error instanceof TypeError || error instanceof RangeError) return { message: error.message }
  return undefined
}

/** Times and cached tokens differ from run to run; without them a file is the same each time. */
function plainResult(result: GenerateResult) {
  const { text, tokenIds, finishReason, usage, logprobs, promptLogprobs, routing } = result
  const { promptTokens, generatedTokens } = usage
  return {
    text,
    tokenIds,
    finishReason,
    usage: { promptTokens, generatedTokens },
    ...(logprobs && { logprobs }),
    ...(promptLogprobs && { promptLogprobs }),
    ...(routing && { routing: plainRouting(routing) }),
  }
}
