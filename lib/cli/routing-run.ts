/** The work of `moepp routing`: each text through each model, one after the other. */

import { basename } from 'node:path'
import { MoeppError, type MoeppErrorCode } from '../errors.js'
import type { LoadOptions } from '../options/generate.js'
import { withMeasured } from '../routing/cost.js'
import { SampleKeeper } from '../routing/export/sample-keeper.js'
import type { AddTokens } from '../routing/export/token-file.js'
import { measureCosts } from '../routing/measured-cost.js'
import { PATH_PICKS } from '../routing/page-format.js'
import { survey } from '../routing/survey.js'
import type { MeasuredCost, Sample, Subject } from '../routing/types.js'
import { formatBytes, formatCount, formatRate } from './format.js'
import type { Progress } from './progress.js'
import { type FoundModel, type LoadedModel, loadFound } from './routing-model.js'
import type { TextInput } from './text-input.js'

export interface RoutingSetup {
  readonly models: readonly FoundModel[]
  readonly inputs: readonly TextInput[]
  readonly load: LoadOptions
  readonly window: number | undefined
  readonly addSpecialTokens: boolean
  /** Tokens of each text. */
  readonly limit: number | undefined
  /** Tokens that the page shows, all texts together. */
  readonly pageTokens: number
  readonly measure: boolean
}

/** Of a text; more are of no use for a measurement. */
const MEASURED_TOKENS = 1024

/** The model runs, but not beside its twin. */
const MISSED: readonly MoeppErrorCode[] = ['ERR_OUT_OF_MEMORY', 'ERR_UNSUPPORTED']

export interface Surveyed {
  readonly subject: Subject
  readonly sample: Sample
}

interface Tools {
  readonly progress: Progress
  readonly signal: AbortSignal
  readonly warn: (text: string) => void
  readonly addTokens?: AddTokens
}

/** A model is closed before the next is loaded. */
export async function surveyAll(setup: RoutingSetup, tools: Tools): Promise<Surveyed[]> {
  const all: Surveyed[] = []
  for (const found of setup.models) {
    const surveyed = await surveyModel(found, setup, tools)
    const costs = setup.measure ? await measure(found, surveyed, setup, tools) : []
    for (const [i, { subject, sample }] of surveyed.entries()) {
      const cost = subject.cost && costs[i] ? withMeasured(subject.cost, costs[i]) : subject.cost
      all.push({ subject: { ...subject, cost }, sample })
    }
  }
  return all
}

interface WithStart extends Surveyed {
  /** The first tokens of the text. */
  readonly start: Int32Array
}

async function surveyModel(
  found: FoundModel,
  setup: RoutingSetup,
  tools: Tools,
): Promise<WithStart[]> {
  await using loaded = await loadFound(found, setup.load, tools.progress, tools.signal)
  const surveyed: WithStart[] = []
  for (const input of setup.inputs)
    surveyed.push(await surveyText({ found, loaded, input, setup, tools }))
  return surveyed
}

interface SurveyParts {
  readonly found: FoundModel
  readonly loaded: LoadedModel
  readonly input: TextInput
  readonly setup: RoutingSetup
  readonly tools: Tools
}

async function surveyText(parts: SurveyParts): Promise<WithStart> {
  const { found, loaded, input, setup, tools } = parts
  const { models, inputs, pageTokens, limit, addSpecialTokens } = setup
  const names = { model: found.name, file: input.name, dtype: loaded.dtype }
  const subjects = models.length * inputs.length
  const sampleTokens = Math.floor(pageTokens / subjects)
  const keeper = new SampleKeeper({ tokens: sampleTokens, picks: PATH_PICKS / subjects })
  const windowTokens = setup.window ?? found.windowTokens
  const start: number[] = []
  try {
    const subject = await survey({
      ...loaded,
      ...{ names, windowTokens, addSpecialTokens, text: input.read(), signal: tools.signal },
      ...(limit !== undefined && { limitTokens: limit }),
      ...(!tools.addTokens && { rowTokens: Math.max(sampleTokens, MEASURED_TOKENS) }),
      onRows: async rows => {
        if (start.length < MEASURED_TOKENS) start.push(...rows.tokens.subarray(0, MEASURED_TOKENS))
        keeper.add(rows)
        await tools.addTokens?.(names, rows)
      },
      onProgress: showTokens(tools.progress, input, limit),
    })
    return { subject, sample: keeper.sample, start: Int32Array.from(start) }
  } finally {
    tools.progress.stop()
  }
}

/** Nothing if the twin cannot be run: the survey's numbers are worth keeping. */
async function measure(
  { name, directory }: FoundModel,
  surveyed: readonly WithStart[],
  { load }: RoutingSetup,
  { progress, signal, warn }: Tools,
): Promise<readonly MeasuredCost[]> {
  try {
    return await measureCosts({
      source: directory,
      load,
      texts: surveyed.map(({ start }) => start),
      signal,
      onProgress: (done, total) => progress.update('Measuring', done, total, '', formatCount),
    })
  } catch (error) {
    const isMissed = error instanceof MoeppError && MISSED.includes(error.code)
    if (!isMissed) throw error
    warn(`${name}: no times are measured: ${error.message}`)
    return []
  } finally {
    progress.stop()
  }
}

/** The bar tells the time that is left by its last steps: they must not be of one batch. */
const STEP_MS = 100

/** A bar of the file's bytes, or of the tokens that are asked for. */
export function showTokens(
  progress: Pick<Progress, 'update'>,
  input: Pick<TextInput, 'name' | 'size' | 'bytesOf'>,
  limit: number | undefined,
) {
  const started = performance.now()
  const stage = `Routing ${basename(input.name)}`
  let last = Number.NEGATIVE_INFINITY
  return (characters: number, tokens: number) => {
    const now = performance.now()
    if (now - last < STEP_MS) return
    last = now
    const detail = `${formatRate(tokens / ((now - started) / 1000))} tokens/s`
    if (limit !== undefined) progress.update(stage, tokens, limit, detail, formatCount)
    else if (input.size !== undefined)
      progress.update(stage, Math.round(input.bytesOf(characters)), input.size, detail, formatBytes)
  }
}
