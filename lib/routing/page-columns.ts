/** Tokens of a sample as columns for the page. */
import { promisify } from 'node:util'
import { deflateRaw } from 'node:zlib'
import {
  PATH_BLOCK,
  type Packed,
  type PackedColumn,
  type PackedPaths,
  type PackedSample,
} from './page-format.js'
import type { LayerRows, Sample, TokenRows } from './types.js'

const deflate = promisify(deflateRaw)

/** Weights, logits and shares are shown with two decimals. */
const STEP = 0.01

/** Deflates bytes, or the UTF-8 of a text. */
export async function packed(bytes: Uint8Array | string): Promise<Packed> {
  return (await deflate(bytes)).toString('base64')
}

/** The columns of a sample. Its paths end where they take more than `pathBytes`. */
export async function packedSample(
  { rows }: Sample,
  pathBytes: number,
): Promise<PackedSample | null> {
  const [first] = rows
  if (first === undefined) return null
  const tokens = tokensOf(rows)
  const { dictionary, entries } = dictionaryOf(rows, tokens)
  const known = rows.filter(hasPicks)
  const pathTokens = tokensOf(known)
  const paths = await packedPaths(known, pathTokens, pathBytes)
  return {
    tokens,
    layers: first.layers.map(({ layer, topK, kinds }) => ({ layer, topK, kinds })),
    starts: startsOf(rows),
    dictionary: await packed(JSON.stringify(dictionary)),
    entries: await column(entries, 1),
    ffnExperts: await packed(ffnExperts(rows, tokens)),
    paths,
    pathTokens: Math.min(paths.length * PATH_BLOCK, pathTokens),
  }
}

function tokensOf(rows: readonly TokenRows[]): number {
  return rows.reduce((sum, { tokens }) => sum + tokens.length, 0)
}

function hasPicks({ tokens, layers }: TokenRows): boolean {
  return layers.every(({ topK, experts }) => experts.length === tokens.length * topK)
}

function dictionaryOf(rows: readonly TokenRows[], count: number) {
  const places = new Map<string, number>()
  const dictionary: [token: number, text: string][] = []
  const entries = new Uint32Array(count)
  let at = 0
  for (const { tokens, texts } of rows) {
    for (let i = 0; i < tokens.length; i++) {
      const token = tokens[i]!
      const text = texts[i] ?? ''
      const key = `${token} ${text}`
      let place = places.get(key)
      if (place === undefined) {
        place = dictionary.push([token, text]) - 1
        places.set(key, place)
      }
      entries[at++] = place
    }
  }
  return { dictionary, entries }
}

function startsOf(rows: readonly TokenRows[]): PackedSample['starts'] {
  const starts: [number, number, number][] = []
  let at = 0
  for (const { window, position, tokens } of rows) {
    if (starts.at(-1)?.[1] !== window) starts.push([at, window, position])
    at += tokens.length
  }
  return starts
}

function ffnExperts(rows: readonly TokenRows[], count: number): Uint8Array {
  const layers = rows[0]!.layers.length
  const numbers = new Uint8Array(layers * count)
  for (let layer = 0; layer < layers; layer++) {
    let at = layer * count
    for (const { layers } of rows) {
      numbers.set(layers[layer]!.ffnExperts, at)
      at += layers[layer]!.ffnExperts.length
    }
  }
  return numbers
}

async function packedPaths(
  rows: readonly TokenRows[],
  tokens: number,
  most: number,
): Promise<PackedPaths[]> {
  const blocks: PackedPaths[] = []
  let size = 0
  for (let from = 0; from < tokens; from += PATH_BLOCK) {
    const pick = (name: 'experts' | 'weights' | 'logits' | 'replaced') =>
      picksOf(rows, name, from, Math.min(from + PATH_BLOCK, tokens))
    const block: PackedPaths = {
      experts: await column(pick('experts'), 1),
      weights: await column(pick('weights'), STEP),
      logits: await column(pick('logits'), STEP),
      replaced: await column(pick('replaced'), STEP),
    }
    size += Object.values(block).reduce((sum, { data }) => sum + data.length, 0)
    if (size > most) break
    blocks.push(block)
  }
  return blocks
}

/** A column of the tokens from `from` to `to`: [m, K] for each layer. */
function picksOf(
  rows: readonly TokenRows[],
  name: 'experts' | 'weights' | 'logits' | 'replaced',
  from: number,
  to: number,
): Float64Array {
  const { layers } = rows[0]!
  const values = new Float64Array(layers.reduce((sum, { topK }) => sum + topK * (to - from), 0))
  let at = 0
  for (let layer = 0; layer < layers.length; layer++) {
    let first = 0
    for (const { tokens, layers } of rows) {
      const { topK, [name]: column }: LayerRows = layers[layer]!
      const begin = Math.max(from - first, 0)
      const end = Math.min(to - first, tokens.length)
      first += tokens.length
      if (begin >= end) continue
      values.set(column.subarray(begin * topK, end * topK), at)
      at += (end - begin) * topK
    }
  }
  return values
}

/** Numbers as integers of 1, 2 or 4 bytes. Larger steps are taken where four are too few. */
async function column(values: Float64Array | Uint32Array, step: number): Promise<PackedColumn> {
  let [least, most] = [Infinity, -Infinity]
  let hasHoles = false
  for (const value of values) {
    if (!Number.isFinite(value)) hasHoles = true
    else {
      if (value < least) least = value
      if (value > most) most = value
    }
  }
  if (least > most) least = most = 0
  while ((most - least) / step > 0xfffffff0) step *= 10
  const base = Math.round(least / step) - Number(hasHoles)
  const largest = Math.round(most / step) - base
  const Integers = largest < 0x100 ? Uint8Array : largest < 0x10000 ? Uint16Array : Uint32Array
  const integers = new Integers(values.length)
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!
    integers[i] = Number.isFinite(value) ? Math.round(value / step) - base : 0
  }
  const bytes = Integers.BYTES_PER_ELEMENT as PackedColumn['bytes']
  return {
    least: base,
    step,
    bytes,
    hasHoles,
    data: await packed(new Uint8Array(integers.buffer)),
  }
}
