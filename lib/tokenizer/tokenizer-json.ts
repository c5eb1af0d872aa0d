/**
 * The parts of a Hugging Face tokenizer.json that moepp runs, and the checks that a file passes
 * before it is used.
 */

import { isObject, show } from '../base/json.js'
import { checkByteLevel, isByteLevel } from './byte-level-json.js'
import {
  type AddedTokenJson,
  type BpeJson,
  badTokenizer,
  checkStep,
  type StepJson,
  stepsOf,
  type TokenizerJson,
} from './json-form.js'
import { MAX_PIECE_LENGTH, MAX_PIECES } from './sentencepiece.js'

/** Half of a surrogate pair is in no text. */
function isText(value: unknown): value is string {
  return typeof value === 'string' && value.isWellFormed()
}

function isShortText(value: unknown): value is string {
  return isText(value) && value.length <= MAX_PIECE_LENGTH
}

const A_SHORT_TEXT = `a text of up to ${MAX_PIECE_LENGTH} UTF-16 units`

/** Real ones have 1 or 2 steps, and keep the length. The bounds keep a slice of work short. */
const MAX_NORMALIZERS = 16
const MAX_GROWTH = 64
/** In UTF-16 units: U+1D160 becomes three characters. */
const NFC_GROWTH = 3

/** Throws unless the file is of a kind that is run exactly, with ids and types in order. */
export function checkTokenizerJson(value: unknown, file: string): TokenizerJson {
  if (!isObject(value)) throw badTokenizer(file, 'the content', 'an object', value)
  const model = checkModel(value.model, file)
  const json: TokenizerJson = {
    ...value,
    model,
    added_tokens: checkAddedTokens(value.added_tokens ?? [], model.vocab, file),
    normalizer: checkStep(value.normalizer, 'normalizer', file),
    pre_tokenizer: checkStep(value.pre_tokenizer, 'pre_tokenizer', file),
    post_processor: checkStep(value.post_processor, 'post_processor', file),
    decoder: checkStep(value.decoder, 'decoder', file),
  }
  checkNormalizers(stepsOf(json.normalizer, 'normalizers', file), file)
  if (isByteLevel(json, file)) checkByteLevel(json, file)
  else {
    // Upstream fails at the first character that is no token.
    if (model.unk_token === '') checkUnknown('', model.vocab, file)
    checkPreTokenizer(json, file)
    checkDecoder(json, file)
  }
  return json
}

function checkModel(model: unknown, file: string): BpeJson {
  if (!isObject(model)) throw badTokenizer(file, 'model', 'an object', model)
  if (model.type !== 'BPE') throw badTokenizer(file, 'model.type', "'BPE'", model.type)
  for (const key of ['dropout', 'continuing_subword_prefix', 'end_of_word_suffix']) {
    // Hugging Face writes '' for none, and a dropout of 0 is none.
    if (model[key] === 0 && key === 'dropout') continue
    if ((model[key] ?? '') !== '') throw badTokenizer(file, `model.${key}`, 'null', model[key])
  }
  for (const key of ['byte_fallback', 'fuse_unk', 'ignore_merges']) {
    const value = model[key] ?? false
    if (typeof value !== 'boolean') throw badTokenizer(file, `model.${key}`, 'a boolean', value)
  }
  const { vocab, merges, unk_token: unk } = model
  if (!isObject(vocab)) throw badTokenizer(file, 'model.vocab', 'an object', vocab)
  checkVocab(vocab, file)
  // GPT-2's files write '' for none.
  if ((unk ?? '') !== '') checkUnknown(unk, vocab, file)
  if (!Array.isArray(merges)) throw badTokenizer(file, 'model.merges', 'an array', merges)
  checkMerges(merges, vocab, file)
  return model as unknown as BpeJson
}

function checkUnknown(unk: unknown, vocab: object, file: string): void {
  if (typeof unk === 'string' && Object.hasOwn(vocab, unk)) return
  throw badTokenizer(file, 'model.unk_token', 'a piece of the vocabulary', unk)
}

function checkVocab(vocab: Record<string, unknown>, file: string): void {
  const entries = Object.entries(vocab)
  if (entries.length === 0 || entries.length > MAX_PIECES) {
    throw badTokenizer(file, 'the number of pieces', `1 to ${MAX_PIECES}`, entries.length)
  }
  const ids = new Set<unknown>()
  for (const [piece, id] of entries) {
    checkId(id, `model.vocab[${show(piece)}]`, file)
    if (ids.has(id)) throw badTokenizer(file, `model.vocab[${show(piece)}]`, 'an id of its own', id)
    if (piece.length > MAX_PIECE_LENGTH) {
      throw badTokenizer(file, `the length of piece ${id}`, `<= ${MAX_PIECE_LENGTH}`, piece.length)
    }
    ids.add(id)
  }
}

function checkId(id: unknown, where: string, file: string): asserts id is number {
  if (!Number.isInteger(id) || (id as number) < 0 || (id as number) >= 2 * MAX_PIECES) {
    throw badTokenizer(file, where, `a token id from 0 to ${2 * MAX_PIECES - 1}`, id)
  }
}

function checkMerges(merges: unknown[], vocab: Record<string, unknown>, file: string): void {
  // Other readers take the form of the first entry for that of all.
  const asPairs = Array.isArray(merges[0])
  for (const [i, merge] of merges.entries()) {
    const parts = asPairs ? merge : typeof merge === 'string' ? merge.split(' ') : undefined
    const isPair =
      Array.isArray(parts) && parts.length === 2 && parts.every(part => typeof part === 'string')
    if (!isPair || !parts.every(part => Object.hasOwn(vocab, part))) {
      throw badTokenizer(file, `model.merges[${i}]`, 'two pieces of the vocabulary', merge)
    }
    if (!Object.hasOwn(vocab, parts.join(''))) {
      throw badTokenizer(file, `model.merges[${i}]`, 'two pieces that make a third', merge)
    }
  }
}

function checkAddedTokens(tokens: unknown, vocab: Readonly<Record<string, number>>, file: string) {
  if (!Array.isArray(tokens)) throw badTokenizer(file, 'added_tokens', 'an array', tokens)
  const ids = new Map(Object.entries(vocab).map(([piece, id]) => [id, piece]))
  const added = new Map<string, number>()
  for (const [i, token] of tokens.entries()) {
    const where = `added_tokens[${i}]`
    if (!isObject(token)) throw badTokenizer(file, where, 'an object', token)
    const { id, content } = token
    checkId(id, `${where}.id`, file)
    if (!isShortText(content) || content === '') {
      throw badTokenizer(file, `${where}.content`, A_SHORT_TEXT, content)
    }
    for (const key of ['single_word', 'lstrip', 'rstrip', 'normalized', 'special']) {
      const value = token[key] ?? false
      if (typeof value !== 'boolean')
        throw badTokenizer(file, `${where}.${key}`, 'a boolean', value)
    }
    const owner = ids.get(id)
    const known = Object.hasOwn(vocab, content) ? vocab[content] : (added.get(content) ?? id)
    if (known !== id || (owner !== undefined && owner !== content)) {
      throw badTokenizer(file, `${where}.id`, `the id of ${show(content)} alone`, id)
    }
    ids.set(id, content)
    added.set(content, id)
  }
  return tokens as AddedTokenJson[]
}

function checkNormalizers(steps: readonly StepJson[], file: string): void {
  if (steps.length > MAX_NORMALIZERS)
    throw badTokenizer(file, 'the number of normalizers', `<= ${MAX_NORMALIZERS}`, steps.length)
  let growth = 1
  for (const [i, step] of steps.entries()) {
    checkNormalizer(step, `normalizer ${i}`, file)
    if (step.type === 'NFC') growth *= NFC_GROWTH
    if (step.type !== 'Replace') continue
    const { pattern, content } = step as unknown as { pattern: { String: string }; content: string }
    growth *= Math.max(1, content.length / pattern.String.length)
  }
  if (growth > MAX_GROWTH)
    throw badTokenizer(file, 'the growth of a normalized text', `<= ${MAX_GROWTH} times`, growth)
}

function checkNormalizer(step: StepJson, where: string, file: string): void {
  if (step.type === 'Prepend') {
    if (!isShortText(step.prepend))
      throw badTokenizer(file, `${where}.prepend`, A_SHORT_TEXT, step.prepend)
  } else if (step.type === 'Replace') {
    const { pattern, content } = step
    if (!isObject(pattern) || !isShortText(pattern.String) || pattern.String === '') {
      throw badTokenizer(file, `${where}.pattern`, `{ String: ${A_SHORT_TEXT} }`, pattern)
    }
    if (pattern.Regex !== undefined)
      throw badTokenizer(file, `${where}.pattern.Regex`, 'absent', pattern.Regex)
    // Some libraries take $ in the content for a reference to the match.
    if (!isShortText(content) || content.includes('$')) {
      throw badTokenizer(file, `${where}.content`, `${A_SHORT_TEXT}, without $`, content)
    }
  } else if (step.type !== 'NFC') {
    throw badTokenizer(file, `${where}.type`, "'NFC', 'Prepend' or 'Replace'", step.type)
  }
}

function checkPreTokenizer({ pre_tokenizer: step, model }: TokenizerJson, file: string): void {
  if (step === null) return
  if (step.type !== 'Metaspace')
    throw badTokenizer(file, 'pre_tokenizer.type', "null or 'Metaspace'", step.type)
  const {
    replacement,
    prepend_scheme: scheme,
    add_prefix_space: prefix,
    split,
    str_rep: escaped,
  } = step
  if (replacement !== '\u2581' || (escaped ?? '\u2581') !== '\u2581') {
    throw badTokenizer(file, 'pre_tokenizer.replacement', '"\u2581"', replacement)
  }
  if (
    scheme === undefined
      ? prefix === false
      : !['always', 'first', 'never'].includes(scheme as string)
  ) {
    throw badTokenizer(file, 'pre_tokenizer.prepend_scheme', "'always', 'first' or 'never'", scheme)
  }
  // The text is not split in front of each U+2581, which is the same unless a merge crosses such a
  // place.
  const crossing = Object.keys(model.vocab).find(piece => piece.indexOf('\u2581', 1) !== -1)
  if (split !== false && crossing !== undefined) {
    throw badTokenizer(
      file,
      'pre_tokenizer.split',
      `false with a piece like ${show(crossing)}`,
      split,
    )
  }
}

/**
 * Decoding is SentencePiece's, see text-stream.ts: the decoder has to be the one that stands for
 * it.
 */
function checkDecoder({ decoder, model }: TokenizerJson, file: string): void {
  const found = stepsOf(decoder, 'decoders', file)
    .map(step => step.type)
    .join(' ')
  if (found === 'Metaspace' && !model.byte_fallback) return
  const expected = model.byte_fallback
    ? /^Replace ByteFallback Fuse( Strip)?$/
    : /^Replace Fuse( Strip)?$/
  if (!expected.test(found)) {
    const form = `a Sequence of Replace, ${model.byte_fallback ? 'ByteFallback, ' : ''}Fuse and Strip`
    throw badTokenizer(file, 'decoder', form, found)
  }
  const [replace] = stepsOf(decoder, 'decoders', file)
  const pattern = replace!.pattern
  if (!isObject(pattern) || pattern.String !== '\u2581' || replace!.content !== ' ') {
    throw badTokenizer(file, "the decoder's Replace", 'U+2581 to a space', replace)
  }
}

/** True if decoding drops the space that encoding put in front. */
export function decoderDropsSpace({ decoder }: TokenizerJson, file: string): boolean {
  if (decoder?.type === 'Metaspace')
    return decoder.prepend_scheme !== 'never' && decoder.add_prefix_space !== false
  return stepsOf(decoder, 'decoders', file).some(step => step.type === 'Strip')
}

/** Ids that post_processor puts before and after a text. */
export function idsAround({ post_processor: step }: TokenizerJson, file: string) {
  const around = { before: [] as number[], after: [] as number[] }
  // ByteLevel says where tokens begin in a text, and changes no ids.
  const steps = stepsOf(step, 'processors', file).filter(({ type }) => type !== 'ByteLevel')
  const [template] = steps
  if (template === undefined) return around
  const others = steps.filter(({ type }) => type !== 'TemplateProcessing')
  if (steps.length > 1 || others.length > 0) {
    const found = steps.map(({ type }) => type).join(' ')
    const expected = "null, 'ByteLevel' or one 'TemplateProcessing'"
    throw badTokenizer(file, 'post_processor.type', expected, found)
  }
  const { single, special_tokens: specials } = template
  if (!Array.isArray(single)) throw badTokenizer(file, 'post_processor.single', 'an array', single)
  let list = around.before
  for (const [i, item] of single.entries()) {
    if (isObject(item) && isObject(item.Sequence)) {
      list = around.after
      continue
    }
    const id = isObject(item) && isObject(item.SpecialToken) ? item.SpecialToken.id : undefined
    const token = isObject(specials) && typeof id === 'string' ? specials[id] : undefined
    const ids = isObject(token) ? token.ids : undefined
    if (!Array.isArray(ids))
      throw badTokenizer(file, `post_processor.single[${i}]`, 'a known token', item)
    for (const tokenId of ids) {
      checkId(tokenId, `post_processor.single[${i}]`, file)
      list.push(tokenId)
    }
  }
  return around
}
