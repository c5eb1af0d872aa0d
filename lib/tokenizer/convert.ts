/** A SentencePiece model, with what tokenizer_config.json adds, as a tokenizer.json. */

import { show } from '../base/json.js'
import { type AddedTokenJson, badTokenizer, type TokenizerJson } from './json-form.js'
import type { SentencePieceModel } from './sentencepiece.js'
import { sentencePieceToJson } from './sentencepiece-json.js'
import { roleId } from './token-ids.js'
import type { TokenizerConfig } from './tokenizer-config.js'
import { checkTokenizerJson } from './tokenizer-json.js'

export function convert(
  model: SentencePieceModel,
  config: TokenizerConfig,
  file: string,
): TokenizerJson {
  const { pieces } = model
  const ids = new Map(pieces.map(({ text }, id) => [text, id]))
  const added: AddedTokenJson[] = []
  for (const { id, content, special } of config.addedTokens) {
    const owner = pieces[id]?.text ?? content
    if (owner !== content || (ids.get(content) ?? id) !== id) {
      throw badTokenizer(
        file,
        `piece ${id}`,
        `${show(content)}, as tokenizer_config.json says`,
        owner,
      )
    }
    if (id < pieces.length) continue
    // Hugging Face cuts the text at these and treats the parts as texts of their own, which
    // SentencePiece never does.
    if (!special)
      throw badTokenizer(file, `added token ${show(content)}`, 'special', 'an ordinary one')
    ids.set(content, id)
    added.push({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special,
    })
  }
  const token = (role: 'bos_token' | 'eos_token', isWanted: boolean) => {
    const id = isWanted ? roleId(role, config, ids, file) : undefined
    return id === undefined ? undefined : { id, content: pieces[id]?.text ?? config.roles[role]! }
  }
  const json = sentencePieceToJson(
    { ...model, addDummyPrefix: model.addDummyPrefix && config.addPrefixSpace },
    // The defaults are those of LlamaTokenizer.
    {
      bos: token('bos_token', config.addBosToken ?? true),
      eos: token('eos_token', config.addEosToken ?? false),
      added,
    },
  )
  return checkTokenizerJson(json, file)
}
