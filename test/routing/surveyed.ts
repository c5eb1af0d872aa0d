/** Surveys of small checkpoints: a model whose tokens are single characters. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { storedTensors } from '../../lib/families/record.js'
import { describeModel } from '../../lib/families/registry.js'
import { Model } from '../../lib/generation/model.js'
import { loadParts } from '../../lib/load/load.js'
import { type LoadOptions, resolveLoadOptions } from '../../lib/options/generate.js'
import type { ModelSpec } from '../../lib/program/model-spec.js'
import { type SurveyOptions, survey } from '../../lib/routing/survey.js'
import type { Subject, TokenRows } from '../../lib/routing/types.js'
import { safetensorsBytes } from '../checkpoint/files.js'
import { characterTokenizer, inPieces, letters } from './character-tokenizer.js'

export interface SmallModel {
  readonly model: Model
  readonly spec: ModelSpec
  readonly cacheDtype: 'f32' | 'bf16'
}

/** On the CPU; token i is `characters[i]`. */
export async function loadSmall(
  directory: string,
  characters?: readonly string[],
  options: LoadOptions = {},
): Promise<SmallModel> {
  const load = resolveLoadOptions({ device: 'cpu', threads: 2, memoryCheck: false, ...options })
  const { tokenizer: _, ...parts } = await loadParts(directory, load)
  const tokenizer = await characterTokenizer(characters ?? letters(parts.config.vocabSize))
  const model = new Model({ ...parts, tokenizer })
  return { model, spec: parts.spec, cacheDtype: parts.runner.cache.dtype }
}

export async function surveyOf(
  small: SmallModel,
  text: string,
  options: Partial<SurveyOptions> = {},
): Promise<{ subject: Subject; rows: TokenRows[] }> {
  const rows: TokenRows[] = []
  const subject = await survey({
    ...small,
    names: { model: 'small', file: 'text', dtype: 'float32' },
    text: inPieces(text, [5]),
    windowTokens: 16,
    addSpecialTokens: true,
    signal: new AbortController().signal,
    onRows: each => {
      rows.push(each)
    },
    ...options,
  })
  return { subject, rows }
}

/** A checkpoint in f32 whose tensors are zeros but for norms, ones, and those of `planted`. */
export function plantedCheckpoint(
  directory: string,
  config: Readonly<Record<string, unknown>>,
  planted: (name: string, shape: readonly number[]) => Float32Array | undefined,
): string {
  mkdirSync(directory, { recursive: true })
  const header: Record<string, object> = {}
  const data: Buffer[] = []
  let end = 0
  for (const { name, shape } of storedTensors(describeModel(config, 'config.json'))) {
    const length = shape.reduce((a, b) => a * b, 1)
    const zeros = new Float32Array(length)
    const values = planted(name, shape) ?? (name.includes('norm') ? zeros.fill(1) : zeros)
    const begin = end
    end += values.byteLength
    header[name] = { dtype: 'F32', shape, data_offsets: [begin, end] }
    data.push(Buffer.from(values.buffer, values.byteOffset, values.byteLength))
  }
  const bytes = safetensorsBytes(header, Buffer.concat(data))
  writeFileSync(join(directory, 'model.safetensors'), bytes)
  writeFileSync(join(directory, 'config.json'), JSON.stringify(config))
  return directory
}
