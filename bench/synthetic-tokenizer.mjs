// A tokenizer for checkpoints with random weights, which have none: that of the tests, with as many
// further pieces as the vocabulary is larger.
import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

const TOKENIZER = fileURLToPath(
  new URL('../test/golden/tokenizer-byte-level/qwen-bpe/', import.meta.url),
)

/**
 * A folder with links to the files of `checkpoint`, and a tokenizer of `vocab` tokens. It goes with
 * this process.
 */
export function withTokenizer(checkpoint, vocab) {
  const folder = mkdtempSync(join(tmpdir(), 'moepp-bench-'))
  process.once('exit', () => rmSync(folder, { recursive: true }))
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1))
  for (const file of readdirSync(checkpoint))
    symlinkSync(resolve(checkpoint, file), join(folder, file))
  const json = JSON.parse(readFileSync(join(TOKENIZER, 'tokenizer.json'), 'utf8'))
  const taken = Object.keys(json.model.vocab).length + json.added_tokens.length
  const piece = i => `\u0120${i.toString(36).padStart(4, '0')}`
  for (let id = taken; id < vocab; id++) json.model.vocab[piece(id)] = id
  writeFileSync(join(folder, 'tokenizer.json'), JSON.stringify(json))
  return folder
}
