/** generation_config.json, checked: the checkpoint's own options of generation. */

import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { Fields, readConfigJson } from '../base/fields.js'
import type { GenerateOptions } from '../options/generate.js'

/** The presets of generation_config.json; a key that it lacks is absent. */
export interface GenerationConfig {
  readonly bosTokenId?: number
  readonly padTokenId?: number
  readonly eosTokenIds?: readonly number[]
  readonly doSample?: boolean
  readonly temperature?: number
  readonly topK?: number
  readonly topP?: number
  readonly minP?: number
  readonly typicalP?: number
  readonly repetitionPenalty?: number
  readonly noRepeatNgramSize?: number
  readonly maxNewTokens?: number
  readonly minNewTokens?: number
  readonly numReturnSequences?: number
}

/**
 * The options of a call among them. numReturnSequences is left out: a checkpoint has no say in
 * whether a call returns an array.
 */
export function presetsOf({
  bosTokenId,
  padTokenId,
  eosTokenIds,
  numReturnSequences,
  ...presets
}: GenerationConfig): Partial<GenerateOptions> {
  return presets
}

/**
 * Reads and checks a model directory's generation_config.json; without that file there are no
 * presets.
 */
export async function readGenerationConfig(directory: string): Promise<GenerationConfig> {
  const path = join(directory, 'generation_config.json')
  if (!existsSync(path)) return {}
  return parseGenerationConfig(await readConfigJson(path), path)
}

/**
 * Checks a parsed generation_config.json. Keys that moepp's generation does not have are ignored.
 */
export function parseGenerationConfig(json: unknown, where: string): GenerationConfig {
  const fields = new Fields(json, where)
  const share = { from: 0, to: 1 }
  const read = {
    bosTokenId: fields.given('bos_token_id', key => fields.tokenId(key, null) ?? undefined),
    padTokenId: fields.given('pad_token_id', key => fields.tokenId(key, null) ?? undefined),
    eosTokenIds: fields.given('eos_token_id', key => fields.tokenIds(key, [])),
    doSample: fields.given('do_sample', key => fields.boolean(key, false)),
    temperature: fields.given('temperature', key => fields.number(key, 1, { from: 0 })),
    // Other programs write -1 for none, too.
    topK: fields.given('top_k', key => Math.max(0, fields.integer(key, 50, { from: -1 }))),
    topP: fields.given('top_p', key => fields.number(key, 1, share)),
    minP: fields.given('min_p', key => fields.number(key, 0, share)),
    typicalP: fields.given('typical_p', key => fields.number(key, 1, { above: 0, to: 1 })),
    repetitionPenalty: fields.given('repetition_penalty', key =>
      fields.number(key, 1, { above: 0 }),
    ),
    noRepeatNgramSize: fields.given('no_repeat_ngram_size', key =>
      fields.integer(key, 0, { from: 0 }),
    ),
    maxNewTokens: fields.given('max_new_tokens', key => fields.integer(key, 1, { from: 1 })),
    minNewTokens: fields.given('min_new_tokens', key => fields.integer(key, 0, { from: 0 })),
    numReturnSequences: fields.given('num_return_sequences', key =>
      fields.integer(key, 1, { from: 1 }),
    ),
  }
  return Object.fromEntries(Object.entries(read).filter(([, value]) => value !== undefined))
}
