/** LongCat-Flash-Lite: LongCat-Flash with another embedding. docs/models/longcat-flash.md. */
import type { Fields } from '../base/fields.js'
import { type NgramShape, Ngrams, ngramEmbedding } from '../layers/ngrams.js'
import type { ModelBuilder } from '../program/model-builder.js'
import type { Family, ModelDescription } from './family.js'
import { type LongcatFlashConfig, longcatDescription, parseLongcat } from './longcat-flash.js'

export interface LongcatFlashNgramConfig extends LongcatFlashConfig, NgramShape {}

export const longcatFlashNgram: Family = {
  name: 'longcat-flash-ngram',
  architectures: ['LongcatFlashNgramForCausalLM'],
  modelTypes: ['longcat_flash_ngram'],
  describe: describeLongcatFlashNgram,
}

/** A row's number is an i32. */
const MOST_ROWS = 2 ** 31 - 1

function describeLongcatFlashNgram(fields: Fields): ModelDescription {
  const shape = {
    ngramOrder: either(fields, 'emb_neighbor_num', 'oe_neighbor_num'),
    ngramSplits: either(fields, 'emb_split_num', 'oe_split_num'),
    ngramRatio: either(fields, 'ngram_vocab_size_ratio', 'oe_vocab_size_ratio'),
  }
  const c: LongcatFlashNgramConfig = { ...parseLongcat(fields, longcatFlashNgram.name), ...shape }
  const ngrams = new Ngrams(c)
  checkTables(fields, c, ngrams)
  return {
    ...longcatDescription(c, m => ngramEmbedding(m, ngrams, c, storedNames(m))),
    ngrams,
  }
}

/** Published files have either name, and no defaults. */
function either(fields: Fields, ...names: [string, string]): number {
  const key = fields.oneOf(...names)
  return fields.integer(key, 0, { from: 1 })
}

function checkTables(fields: Fields, c: LongcatFlashNgramConfig, ngrams: Ngrams): void {
  const { hiddenSize, ngramOrder, ngramSplits, eosTokenIds } = c
  if (ngramOrder < 2) throw fields.bad(`emb_neighbor_num is ${ngramOrder}, expected 2 at least`)
  const tables = ngrams.tableRows.length
  if (hiddenSize % tables !== 0) {
    throw fields.bad(
      `hidden_size is ${hiddenSize}, expected a multiple of emb_split_num ${ngramSplits} * (emb_neighbor_num ${ngramOrder} - 1)`,
    )
  }
  if (ngrams.tableRows.reduce((sum, rows) => sum + rows, 0) > MOST_ROWS)
    throw fields.bad(`the ${tables} n-gram tables have more than 2^31 - 1 rows`)
  // Upstream compares tokens with the one number.
  if (eosTokenIds.length > 1)
    throw fields.bad('eos_token_id is a list of several, expected one token that ends n-grams')
}

/** Sparse checkpoints have other names. */
function storedNames(m: ModelBuilder) {
  return m.isStored('model.oe_embed_tokens0.weight')
    ? {
        table: (t: number) => `model.oe_embed_tokens${t}.weight`,
        projection: (t: number) => `model.oe_embed_proj${t}.weight`,
      }
    : {
        table: (t: number) => `model.ngram_embeddings.embedders.${t}.weight`,
        projection: (t: number) => `model.ngram_embeddings.post_projs.${t}.weight`,
      }
}
