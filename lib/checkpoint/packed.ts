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

import { type DeviceInfo, loadBinding } from '../addon/binding.js'
import type { InputFile } from '../base/input-file.js'
import { isObject, parseJsonObject, show } from '../base/json.js'
import { MoeppError } from '../errors.js'
import { elementCount, isSizes } from '../tensor/tensor-file.js'
import {
  type PackedRef,
  type PanelOrder,
  type QuantisedDType,
  rowsBytes,
} from '../tensor/tensor-ref.js'

/** native/weights/panels.h, kPackedLayoutName; what Device.info() of the CPU says. */
export const PACKED_LAYOUT = 'panels32-i8g128-i4g32x128-v1'

/**
 * Every packed weight begins at a multiple of this within its file: the kernels' vectors are
 * aligned.
 */
export const PACKED_ALIGNMENT = 64

const LAYOUT_KEY = 'moepp_layout'
const WEIGHTS_KEY = 'moepp_packed'

/** native/weights/quantise.h, kMostQuantisedInputs. */
const MAX_INPUTS = 2 ** 24
const PANEL_ROWS = 32

/** The metadata of one packed weight. */
export type PackedWeight = Pick<PackedRef, 'dtype' | 'shape' | 'packed'>

/** Bytes of a packed weight, panels padded to 32 rows; undefined if they are too many to count. */
export function packedBytes({
  dtype,
  shape,
}: Pick<PackedWeight, 'dtype' | 'shape'>): number | undefined {
  const inputs = shape.at(-1)!
  const rows = shape.at(-2)!
  const experts = shape.length === 3 ? shape[0]! : 1
  return elementCount([experts, Math.ceil(rows / PANEL_ROWS), rowsBytes(dtype, PANEL_ROWS, inputs)])
}

export function packedMetadata(weights: ReadonlyMap<string, PackedWeight>): Record<string, string> {
  const said = [...weights].map(([name, { dtype, shape, packed }]) => [
    name,
    { dtype, shape, packed },
  ])
  return { [LAYOUT_KEY]: PACKED_LAYOUT, [WEIGHTS_KEY]: JSON.stringify(Object.fromEntries(said)) }
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
  if (layout !== PACKED_LAYOUT) {
    throw file.bad(
      `its packed weights have the layout ${show(layout)}, this version of moepp reads ${show(PACKED_LAYOUT)}; ` +
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
  const { dtype, shape, packed } = value
  if (dtype !== 'int8' && dtype !== 'int4')
    throw bad(`dtype is ${show(dtype)}, expected "int8" or "int4"`)
  if (packed !== 'panels' && packed !== 'gateUpPanels') {
    throw bad(`packed is ${show(packed)}, expected "panels" or "gateUpPanels"`)
  }
  if (!isSizes(shape) || shape.length < 2 || shape.length > 3 || shape.includes(0)) {
    throw bad(`shape is ${show(shape)}, expected 2 or 3 sizes above 0`)
  }
  if (shape.at(-1)! > MAX_INPUTS)
    throw bad(`rows have ${shape.at(-1)} elements, expected at most ${MAX_INPUTS}`)
  if (packed === 'gateUpPanels' && shape.at(-2)! % 2 !== 0) {
    throw bad(
      `shape is ${show(shape)}, expected [experts, 2 * columns, inputs] or [2 * columns, inputs], packed as "gateUpPanels"`,
    )
  }
  return { dtype: dtype satisfies QuantisedDType, shape, packed: packed satisfies PanelOrder }
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
  if (byteOffset % PACKED_ALIGNMENT !== 0) {
    throw bad(`begins at byte ${byteOffset}, expected a multiple of ${PACKED_ALIGNMENT}`)
  }
  return { ...weight, file: file.path, byteOffset, byteLength }
}

/**
 * Packed weights are sized and written here, and read by the addon: both must mean the same bytes.
 * A device that takes none has no layout, and says so itself.
 * @throws MoeppError ERR_UNSUPPORTED
 */
export function checkPackedLayout({ packedLayout }: DeviceInfo): void {
  if (packedLayout === PACKED_LAYOUT || packedLayout === '') return
  throw new MoeppError(
    'ERR_UNSUPPORTED',
    `the native addon packs weights as "${packedLayout}", this version of moepp as "${PACKED_LAYOUT}": they are of different ` +
      `versions. ${loadBinding().path} is the addon; install moepp again, or build it again if it was built here`,
  )
}
