/** A small random Qwen3-MoE++ with a tokenizer of Qwen's kind and a chat template. */
import { copyFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { directoryWith } from '../checkpoint/files.js'
import { randomOfFamily } from '../reference/random-families.js'
import { QWEN3_TEMPLATE } from './chat-templates.js'
import { golden, readJson } from './golden.js'

const TOKENIZER = join(golden, 'tokenizer-byte-level', 'qwen-bpe')

export interface ChatCheckpointOptions {
  /** null: a base model. */
  readonly template?: string | null
  /** Ids beyond the tokenizer's 2014 have no token. */
  readonly vocabSize?: number
}

/** The checkpoint's folder, in `parent`. Its answers are random, and so seldom of one language. */
export function chatCheckpoint(
  parent: string,
  { template = QWEN3_TEMPLATE, vocabSize = 2014 }: ChatCheckpointOptions = {},
): string {
  const { files } = randomOfFamily('qwen3_moe_plus_plus', 1, {
    vocab_size: vocabSize,
    hidden_size: 32,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    head_dim: 16,
    max_position_embeddings: 4096,
    rope_scaling: null,
    eos_token_id: null,
  })
  const directory = directoryWith(parent, 'chat', files)
  copyFileSync(join(TOKENIZER, 'tokenizer.json'), join(directory, 'tokenizer.json'))
  const config = readJson<Record<string, unknown>>(join(TOKENIZER, 'tokenizer_config.json'))
  const { chat_template: _, ...rest } = config
  writeFileSync(join(directory, 'tokenizer_config.json'), JSON.stringify(rest))
  if (template !== null) writeFileSync(join(directory, 'chat_template.jinja'), template)
  return directory
}
