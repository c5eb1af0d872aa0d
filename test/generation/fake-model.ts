/** A Model on a fake runner, with the bundled model's tokenizer. */
import { join } from 'node:path'
import type { ModelConfig } from '../../lib/families/family.js'
import { readModel } from '../../lib/families/registry.js'
import type { GenerationConfig } from '../../lib/generation/generation-config.js'
import { Model } from '../../lib/generation/model.js'
import { loadTokenizer, type Tokenizer } from '../../lib/tokenizer/tokenizer.js'
import { FAKE_EXPERTS, type FakeOptions, FakeRunner } from '../engine/fake-runner.js'
import { root } from '../support/golden.js'

const directory = join(root, 'models', 'books-7m')
export const tokenizer = await loadTokenizer(directory)
export const config: ModelConfig = {
  ...(await readModel(directory)).config,
  layers: 2,
  experts: FAKE_EXPERTS,
  ffnExperts: FAKE_EXPERTS - 4,
}

export const EOS = 2

export interface FakeModelOptions extends FakeOptions {
  generation?: GenerationConfig
  hasTokenizer?: boolean
  /** Instead of the bundled model's. */
  tokenizer?: Tokenizer
  /** By position: the token that the logits of the one before it favour. */
  script?: ReadonlyMap<number, number>
}

export function fakeModel(options: FakeModelOptions = {}) {
  const { script, hasTokenizer = true, tokenizer: own = tokenizer } = options
  const runner = new FakeRunner({
    vocabSize: config.vocabSize,
    contextLength: 200,
    shape(logits, _token, position) {
      // Otherwise a hash would end some texts at random.
      logits[EOS] = -20
      const next = script?.get(position + 1)
      if (next !== undefined) logits[next] = 30
    },
    ...options,
  })
  const generation = options.generation ?? {}
  const model = new Model({ runner, config, generation, ...(hasTokenizer && { tokenizer: own }) })
  return { model, runner }
}

/** A script that continues a prompt with the given tokens. */
export function continuing(prompt: string, tokens: readonly number[]): ReadonlyMap<number, number> {
  const start = tokenizer.encode(prompt).length
  return new Map(tokens.map((token, i) => [start + i, token]))
}

/** Tokens by their names, `▁the` or `<0xE2>`. */
export function pieces(...names: string[]): number[] {
  return names.map(name => {
    const id = tokenizer.tokenToId(name)
    if (id === undefined) throw new Error(`no token ${name}`)
    return id
  })
}
