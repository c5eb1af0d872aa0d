/**
 * The header of a safetensors file: an 8-byte little-endian length, that many bytes of JSON, then
 * the tensors' bytes.
 *
 *     {"__metadata__": {text: text},
 *      NAME: {"dtype": "BF16", "shape": [2, 3], "data_offsets": [begin, end]}, ...}
 *
 * Offsets count from the end of the header. Source: the format's description at
 * github.com/huggingface/safetensors; like its own reader this one wants the tensors to cover the
 * file exactly, without gap or overlap. Packed weights are U8 tensors that the metadata tells more
 * about (packed.ts).
 */

import { decodeUtf8, InputFile } from '../base/input-file.js'
import { isObject, parseJsonObject, show } from '../base/json.js'
import { elementCount, isSizes, type TensorFile } from '../tensor/tensor-file.js'
import type { PackedRef, StoredDType, TensorRef } from '../tensor/tensor-ref.js'
import { type PackedWeight, packedRef, parsePackedMetadata } from './packed.js'

const MAX_HEADER_BYTES = 100_000_000

/** Bits per element of every type that the format has. */
const DTYPE_BITS: ReadonlyMap<unknown, number> = new Map(
  Object.entries({
    ...{ F4: 4, F6_E2M3: 6, F6_E3M2: 6, F8_E5M2: 8, F8_E4M3: 8, F8_E8M0: 8 },
    ...{ F16: 16, BF16: 16, F32: 32, F64: 64, C64: 64 },
    ...{ BOOL: 8, I8: 8, U8: 8, I16: 16, U16: 16, I32: 32, U32: 32, I64: 64, U64: 64 },
  }),
)

const USABLE: ReadonlyMap<string, StoredDType> = new Map([
  ['F32', 'f32'],
  ['F16', 'f16'],
  ['BF16', 'bf16'],
  ['F8_E4M3', 'float8'],
])

interface Entry {
  readonly name: string
  readonly dtype: string
  readonly shape: number[]
  readonly begin: number
  readonly end: number
}

export async function readSafetensors(path: string): Promise<TensorFile> {
  return InputFile.with(path, async file => {
    const { entries, metadata, dataOffset } = await readHeader(file)
    checkCoverage(file, entries, file.size - dataOffset)
    const tensors = new Map<string, TensorRef>()
    const unusable = new Map<string, string>()
    const packed = packedRefs(file, parsePackedMetadata(file, metadata), entries, dataOffset)
    for (const { name, dtype, shape, begin, end } of entries) {
      if (packed.has(name)) continue
      const usable = USABLE.get(dtype)
      if (usable === undefined) unusable.set(name, dtype)
      else {
        const byteOffset = dataOffset + begin
        tensors.set(name, { dtype: usable, shape, file: path, byteOffset, byteLength: end - begin })
      }
    }
    return { tensors, packed, unusable }
  })
}

interface Header {
  readonly entries: Entry[]
  readonly metadata: Readonly<Record<string, string>>
  readonly dataOffset: number
}

async function readHeader(file: InputFile): Promise<Header> {
  const length = (await file.read(0, 8, 'the header length')).readBigUInt64LE()
  if (length > MAX_HEADER_BYTES) {
    throw file.bad(`the header claims ${length} bytes, at most ${MAX_HEADER_BYTES} are accepted`)
  }
  const dataOffset = 8 + Number(length)
  const where = `${file.path}: header`
  const text = decodeUtf8(await file.read(8, Number(length), 'the header'), where)
  const header = parseJsonObject(text, where)
  const entries: Entry[] = []
  let metadata: Readonly<Record<string, string>> = {}
  for (const [name, value] of Object.entries(header)) {
    if (name === '__metadata__') metadata = checkMetadata(file, value)
    else entries.push(parseEntry(file, name, value))
  }
  return { entries, metadata, dataOffset }
}

function checkMetadata(file: InputFile, value: unknown): Record<string, string> {
  const isTexts = (texts: Record<string, unknown>): texts is Record<string, string> =>
    Object.values(texts).every(text => typeof text === 'string')
  if (isObject(value) && isTexts(value)) return value
  throw file.bad('__metadata__ is not an object of texts')
}

function parseEntry(file: InputFile, name: string, value: unknown): Entry {
  const bad = (message: string) => file.bad(`tensor ${show(name)}: ${message}`)
  if (!isObject(value)) throw bad(`expected an object, got ${show(value)}`)
  const { dtype, shape, data_offsets: offsets } = value
  const bits = DTYPE_BITS.get(dtype)
  if (bits === undefined) throw bad(`dtype is ${show(dtype)}, which the format does not have`)
  if (!isSizes(shape)) throw bad(`shape is ${show(shape)}, expected a list of sizes`)
  if (!isSizes(offsets) || offsets.length !== 2) {
    throw bad(`data_offsets is ${show(offsets)}, expected [begin, end]`)
  }
  const [begin, end] = offsets as [number, number]
  const count = elementCount([...shape, bits])
  if (count === undefined) throw bad(`the product of shape ${show(shape)} overflows`)
  if (count !== (end - begin) * 8) {
    throw bad(
      `${show(shape)} ${dtype} takes ${count / 8} bytes, data_offsets ${show(offsets)} hold ${end - begin}`,
    )
  }
  return { name, dtype: dtype as string, shape, begin, end }
}

function packedRefs(
  file: InputFile,
  weights: ReadonlyMap<string, PackedWeight>,
  entries: readonly Entry[],
  dataOffset: number,
): Map<string, PackedRef> {
  const packed = new Map<string, PackedRef>()
  if (weights.size === 0) return packed
  const byName = new Map(entries.map(entry => [entry.name, entry]))
  for (const [name, weight] of weights) {
    const entry = byName.get(name)
    if (entry?.dtype !== 'U8') {
      throw file.bad(
        `packed weight ${show(name)}: the tensor is ${entry?.dtype ?? 'missing'}, expected U8`,
      )
    }
    packed.set(
      name,
      packedRef(file, name, weight, dataOffset + entry.begin, entry.end - entry.begin),
    )
  }
  return packed
}

/**
 * Every byte after the header belongs to one tensor: no hidden content, and no two tensors share
 * bytes.
 */
function checkCoverage(file: InputFile, entries: readonly Entry[], dataLength: number): void {
  const ordered = [...entries].sort((a, b) => a.begin - b.begin || a.end - b.end)
  let covered = 0
  for (const { name, begin, end } of ordered) {
    if (begin !== covered) {
      const kind = begin < covered ? 'overlaps the tensor before it' : 'leaves a gap before it'
      throw file.bad(
        `tensor ${show(name)}: data_offsets [${begin}, ${end}] ${kind}, expected begin ${covered}`,
      )
    }
    covered = end
  }
  if (covered !== dataLength) {
    throw file.bad(`the tensors take ${covered} bytes, the file has ${dataLength} after its header`)
  }
}
