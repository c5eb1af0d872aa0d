/** Pickles as lists of operations: torch's state dicts with operations lost, doubled, exchanged. */

import { pickled } from '../checkpoint/files.js'
import { changedBytes, changedValues, integerBytes } from './bytes.js'
import { boundary, changedText, hostileText } from './hostile.js'
import type { Random } from './random.js'

/** Bytes after an opcode. -1: two lines; -2: a text with its length; -3: a byte has the number. */
const ARGUMENT_BYTES: ReadonlyMap<number, number> = new Map([
  ...[...'(N)t]ae}suQRb.\x85\x86\x87\x88\x89'].map((c): [number, number] => [c.charCodeAt(0), 0]),
  ...[...'\x80Kqh'].map((c): [number, number] => [c.charCodeAt(0), 1]),
  ...[...'Jrj'].map((c): [number, number] => [c.charCodeAt(0), 4]),
  [0x4d, 2],
  [0x47, 8],
  [0x63, -1],
  [0x58, -2],
  [0x8a, -3],
])

const GLOBALS = ['torch._utils\n_rebuild_tensor_v2\n', 'collections\nOrderedDict\n', 'os\nsystem\n']
  .concat(['torch\nFloatStorage\n', 'torch\nBFloat16Storage\n', 'torch\nLongStorage\n', '\n\n'])
  .concat(['builtins\neval\n', '__proto__\nconstructor\n', 'torch._utils\n_rebuild_parameter\n'])

/** The operations of the pickles that `bytes` begins with, and what follows the last of them. */
export function operations(bytes: Buffer, pickles: number): { ops: Buffer[]; rest: Buffer } {
  const ops: Buffer[] = []
  let at = 0
  for (let left = pickles; left > 0 && at < bytes.length; ) {
    const length = operationLength(bytes, at)
    if (length === undefined || at + length > bytes.length) break
    ops.push(bytes.subarray(at, at + length))
    if (bytes[at] === 0x2e) left--
    at += length
  }
  return { ops, rest: bytes.subarray(at) }
}

function operationLength(bytes: Buffer, at: number): number | undefined {
  const argument = ARGUMENT_BYTES.get(bytes[at]!)
  if (argument === undefined) return undefined
  if (argument >= 0) return 1 + argument
  if (argument === -1) {
    const second = bytes.indexOf(0x0a, bytes.indexOf(0x0a, at) + 1)
    return second < 0 ? undefined : second + 1 - at
  }
  if (argument === -2) return at + 5 > bytes.length ? undefined : 5 + bytes.readUInt32LE(at + 1)
  return at + 2 > bytes.length ? undefined : 2 + bytes[at + 1]!
}

/** Changes one of the first `pickles` pickles of `bytes`. */
export function changedPickle(bytes: Buffer, random: Random, pickles = 1): Buffer {
  const { ops, rest } = operations(bytes, pickles)
  if (ops.length === 0 || random.once(12)) {
    return changedBytes(bytes, random, [[0, bytes.length - rest.length]])
  }
  if (rest.length > 0 && random.once(6)) return Buffer.concat([...ops, changedValues(rest, random)])
  const [a, b] = [random.below(ops.length), random.below(ops.length)]
  const span = random.few(8)
  switch (random.below(8)) {
    case 0:
      ops.splice(a, span)
      break
    case 1:
      ops.splice(b, 0, ...ops.slice(a, a + span))
      break
    case 2:
      ;[ops[a], ops[b]] = [ops[b]!, ops[a]!]
      break
    case 3:
      ops.splice(a, 0, randomOperation(random))
      break
    case 4: {
      // Many of one: the bounds of stack, memo and objects.
      const many = Buffer.alloc(random.pick([10, 1000, 150_000]), random.pick(['(', 'N', ')', ']']))
      ops.splice(a, 0, random.once(20) ? many : many.subarray(0, 10))
      break
    }
    default:
      ops[a] = changedOperation(ops[a]!, random)
  }
  return Buffer.concat([...ops, rest])
}

function changedOperation(op: Buffer, random: Random): Buffer {
  const code = op[0]!
  if (code === 0x58) {
    const text = op.toString('utf8', 5)
    return pickled.text(random.once(2) ? String(boundary(random)) : changedText(text, random))
  }
  if (code === 0x63) return Buffer.from(`c${random.pick(GLOBALS)}`)
  if (code === 0x4b || code === 0x4d || code === 0x4a || code === 0x8a) return integer(random)
  if (op.length > 1)
    return Buffer.concat([op.subarray(0, 1), integerBytes(boundary(random), 8)]).subarray(
      0,
      op.length,
    )
  return randomOperation(random)
}

function integer(random: Random): Buffer {
  const value = boundary(random)
  if (random.once(3)) {
    const width = 1 + random.below(random.once(10) ? 255 : 9)
    const bytes = Buffer.alloc(width, value < 0n ? 0xff : 0)
    integerBytes(value, 8).copy(bytes)
    return Buffer.concat([Buffer.from([0x8a, width]), bytes])
  }
  const [code, width] = random.pick([
    [0x4b, 1],
    [0x4d, 2],
    [0x4a, 4],
  ] as const)
  return Buffer.concat([Buffer.from([code]), integerBytes(value, width)])
}

function randomOperation(random: Random): Buffer {
  switch (random.below(6)) {
    case 0:
      return integer(random)
    case 1:
      return pickled.text(hostileText(random))
    case 2:
      return Buffer.from(`c${random.pick(GLOBALS)}`)
    case 3:
      return Buffer.from([random.pick([0x71, 0x68]), random.below(256)])
    case 4:
      return Buffer.from([random.below(256)])
    default:
      return Buffer.from(random.pick([...'(N)t]ae}suQRb.\x85\x86\x87\x88\x89']), 'latin1')
  }
}
