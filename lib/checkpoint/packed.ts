/**
 * Packed weights in a safetensors file: int8 and int4 matrices in the very bytes that the CPU's
 * kernels read. They are used from the mapped file. Each is a U8 tensor of one dimension under the
 * name of the weight, aligned to 64 bytes within the file. The file's metadata describes the bytes:
 *
 *     "moepp_layout": "panels32-i8g128-i4g32x128-v1"
 *     "moepp_packed": "{NAME: {\"dtype\": \"int8\", \"shape\": [rows, inputs],
 *                              \"packed\": \"panels\"}, ...}"
 *
 * native/weights/panels.h describes the layout. For any bytes kernels stay within them; only the
 * numbers can be wrong.
 */

import { loadBinding } from '../addon/binding.js'
import type { InputFile } from '../base/input-file.js'
import { isObject, parseJsonObject, show } from '../base/json.js'
import { elementCount, isSizes } from '../tensor/tensor-file.js'
import type { MatrixLayout, PackedRef, QuantisedDType } from '../tensor/tensor-ref.js'

/** The addon packs weights and reads them, so it says how. */
export const packedLayout = () => loadBinding().packedLayout

/** The words of the file format. */
const STORED_ORDER = { matrix: 'panels', gateUp: 'gateUpPanels' } as const

const LAYOUT_KEY = 'moepp_layout'
const WEIGHTS_KEY = 'moepp_packed'

/** The metadata of one packed weight. */
export type PackedWeight = Pick<PackedRef, 'dtype' | 'shape' | 'packed'>

/** Bytes of a packed weight in whole panels; undefined if they are too many to count. */
export function packedBytes({
  dtype,
  shape,
}: Pick<PackedWeight, 'dtype' | 'shape'>): number | undefined {
  const { panelRows, blockInputs, blockBytes } = packedLayout()
  const experts = shape.length === 3 ? shape[0]! : 1
  const panels = Math.ceil(shape.at(-2)! / panelRows)
  const blocks = Math.ceil(shape.at(-1)! / blockInputs)
  return elementCount([experts, panels, blocks, blockBytes[dtype]])
}

export function packedMetadata(weights: ReadonlyMap<string, PackedWeight>): Record<string, string> {
  const said = [...weights].map(([name, { dtype, shape, packed }]) => [
    name,
    { dtype, shape, packed: STORED_ORDER[packed] },
  ])
  return {
    [LAYOUT_KEY]: packedLayout().name,
    [WEIGHTS_KEY]: JSON.stringify(Object.fromEntries(said)),
  }
}

/** The packed weights that a file's metadata names; none in a file of other tensors. */
export function parsePackedMetadata(
  file: InputFile,
  metadata: Readonly<Record<string, string>>,
): ReadonlyMap<string, PackedWeight> {
  const weights = new Map<string, PackedWeight>()
  const layout = Object.hasOwn(metadata, LAYOUT_KEY) ? metadata[LAYOUT_KEY] : undefined
  const text = Object.hasOwn(metadata, WEIGHTS_KEY) ? metadata[WEIGHTS_KEY] : undefined
  if (layout === undefined && text === undefined) return weights
  const { name: known } = packedLayout()
  if (layout !== known) {
    throw file.bad(
      `its packed weights have the layout ${show(layout)}, this version of moepp reads ${show(known)}; ` +
        'convert the original checkpoint again with this version',
    )
  }
  if (text === undefined) throw file.bad(`metadata has ${LAYOUT_KEY}, but no ${WEIGHTS_KEY}`)
  for (const [name, value] of Object.entries(
    parseJsonObject(text, `${file.path}: ${WEIGHTS_KEY}`),
  )) {
    weights.set(name, parseWeight(file, name, value))
  }
  return weights
}

function parseWeight(file: InputFile, name: string, value: unknown): PackedWeight {
  const bad = (message: string) => file.bad(`packed weight ${show(name)}: ${message}`)
  if (!isObject(value)) throw bad(`expected an object, got ${show(value)}`)
  const { dtype, shape, packed: order } = value
  if (dtype !== 'int8' && dtype !== 'int4')
    throw bad(`dtype is ${show(dtype)}, expected "int8" or "int4"`)
  const packed = (['matrix', 'gateUp'] as const).find(layout => STORED_ORDER[layout] === order)
  if (!packed) throw bad(`packed is ${show(order)}, expected "panels" or "gateUpPanels"`)
  if (!isSizes(shape) || shape.length < 2 || shape.length > 3 || shape.includes(0)) {
    throw bad(`shape is ${show(shape)}, expected 2 or 3 sizes above 0`)
  }
  const { mostInputs } = packedLayout()
  if (shape.at(-1)! > mostInputs)
    throw bad(`rows have ${shape.at(-1)} elements, expected at most ${mostInputs}`)
  if (packed === 'gateUp' && shape.at(-2)! % 2 !== 0) {
    throw bad(
      `shape is ${show(shape)}, expected [experts, 2 * columns, inputs] or [2 * columns, inputs], packed as "gateUpPanels"`,
    )
  }
  return { dtype: dtype satisfies QuantisedDType, shape, packed: packed satisfies MatrixLayout }
}

/** The reference of a packed weight whose bytes are said to lie there. */
export function packedRef(
  file: InputFile,
  name: string,
  weight: PackedWeight,
  byteOffset: number,
  byteLength: number,
): PackedRef {
  const bad = (message: string) => file.bad(`packed weight ${show(name)}: ${message}`)
  const expected = packedBytes(weight)
  if (byteLength !== expected) {
    throw bad(
      `${show(weight.shape)} ${weight.dtype} takes ${expected ?? 'too many'} bytes, the file has ${byteLength}`,
    )
  }
  const { alignment } = packedLayout()
  if (byteOffset % alignment !== 0)
    throw bad(`begins at byte ${byteOffset}, expected a multiple of ${alignment}`)
  return { ...weight, file: file.path, byteOffset, byteLength }
}
