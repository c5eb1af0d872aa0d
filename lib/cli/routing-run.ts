/** The work of `moepp routing`: each text through each model, one after the other. */

import type { LoadOptions } from '../options/generate.js'
import { SampleKeeper } from '../routing/export/sample-keeper.js'
import type { AddTokens } from '../routing/export/token-file.js'
import { survey } from '../routing/survey.js'
import type { Sample, Subject } from '../routing/types.js'
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

export interface Surveyed {
  readonly subject: Subject
  readonly sample: Sample
}

/** A model is closed before the next is loaded. */
export async function surveyAll(
  setup: RoutingSetup,
  progress: Progress,
  signal: AbortSignal,
  addTokens?: AddTokens,
): Promise<Surveyed[]> {
  const { models, inputs, load, pageTokens } = setup
  const room = Math.floor(pageTokens / (models.length * inputs.length))
  const surveyed: Surveyed[] = []
  for (const found of models) {
    await using loaded = await loadFound(found, load, progress, signal)
    for (const input of inputs) {
      const keeper = new SampleKeeper(room)
      const subject = await surveyOne({ setup, found, loaded, input, keeper, progress, signal, addTokens })
      surveyed.push({ subject, sample: keeper.sample })
    }
  }
  return surveyed
}

interface One {
  readonly setup: RoutingSetup
  readonly found: FoundModel
  readonly loaded: LoadedModel
  readonly input: TextInput
  readonly keeper: SampleKeeper
  readonly progress: Progress
  readonly signal: AbortSignal
  readonly addTokens: AddTokens | undefined
}

async function surveyOne(one: One): Promise<Subject> {
  const { setup, found, loaded, input, keeper, progress, signal, addTokens } = one
  const names = { model: found.name, file: input.name, dtype: loaded.dtype }
  try {
    return await survey({
      model: loaded.model,
      spec: loaded.spec,
      names,
      text: input.read(),
      windowTokens: setup.window ?? found.windowTokens,
      addSpecialTokens: setup.addSpecialTokens,
      signal,
      onRows: async rows => {
        keeper.add(rows)
        await addTokens?.(names, rows)
      },
      onProgress: showTokens(progress, input, setup.limit),
    })
  } finally {
    progress.stop()
  }
}

/** A bar of the file's bytes, or of the tokens that are asked for. */
function showTokens(progress: Progress, input: TextInput, limit: number | undefined) {
  const started = performance.now()
  return (characters: number, tokens: number) => {
    const rate = formatRate(tokens / ((performance.now() - started) / 1000))
    const detail = `${rate} tokens/s`
    const stage = `Routing ${input.name}`
    if (limit !== undefined) progress.update(stage, tokens, limit, detail, formatCount)
    else if (input.size !== undefined)
      progress.update(stage, Math.round(input.bytesOf(characters)), input.size, detail, formatBytes)
  }
}
