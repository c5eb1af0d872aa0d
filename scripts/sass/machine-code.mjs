// The machine code of a cubin. Since Volta an instruction is 16 bytes.
import { readFileSync } from 'node:fs'
import { harmless, isOfMemory, opcodes } from './opcodes.mjs'

/** The code of each kernel of a cubin, an ELF file with one .text section per kernel. */
export function readKernels(cubin) {
  const bytes = readFileSync(cubin)
  const headers = Number(bytes.readBigUInt64LE(40))
  const headerSize = bytes.readUInt16LE(58)
  const section = i => {
    const at = headers + i * headerSize
    return {
      name: bytes.readUInt32LE(at),
      offset: Number(bytes.readBigUInt64LE(at + 24)),
      size: Number(bytes.readBigUInt64LE(at + 32)),
    }
  }
  const names = section(bytes.readUInt16LE(62)).offset
  const kernels = new Map()
  for (let i = 0; i < bytes.readUInt16LE(60); i++) {
    const { name, offset, size } = section(i)
    const text = bytes.toString('latin1', names + name, bytes.indexOf(0, names + name))
    if (text.startsWith('.text.'))
      kernels.set(text.slice('.text.'.length), bytes.subarray(offset, offset + size))
  }
  return kernels
}

const opcodeAt = (code, at) => code.readUInt16LE(at) & 0x1ff

export const nameOf = opcode => opcodes.get(opcode) ?? `0x${opcode.toString(16)}`

/** The number of instructions of each opcode from one address up to another. */
export function countOpcodes(code, from = 0, to = code.length) {
  const counts = new Map()
  for (let at = from; at + 16 <= to; at += 16) {
    const opcode = nameOf(opcodeAt(code, at))
    counts.set(opcode, (counts.get(opcode) ?? 0) + 1)
  }
  return counts
}

/**
 * True if the instruction runs whatever its predicates are. The one before the instruction (bits 12
 * to 15) is constant then, and so is a branch's operand (bits 87 to 91). A branch has no modifier
 * (bits 24 to 33).
 */
function isUnconditional(code, at) {
  const low = code.readBigUInt64LE(at)
  const operand = (code.readBigUInt64LE(at + 8) >> 23n) & 0x1fn
  return (low & 0x3_ff00_f000n) === 0x7000n && operand === 7n
}

/**
 * The address that a branch names. Its distance from the next instruction is in units of 4 bytes,
 * from bit 34 to 81. Since sm_90 these are its upper bits, and the low 8 are at bit 16.
 */
function targetOf(code, at, capability = 90) {
  const low = code.readBigUInt64LE(at)
  const high = code.readBigUInt64LE(at + 8) & 0x3ffffn
  const upper = BigInt.asIntN(48, (high << 30n) | (low >> 34n))
  const distance = capability < 90 ? upper : (upper << 8n) | ((low >> 16n) & 0xffn)
  return at + 16 + Number(distance) * 4
}

/** The same for BSSY, whose distance is in bytes, from bit 32 to 63. */
const meetingOf = (code, at) => at + 16 + code.readInt32LE(at + 4)

/** The addresses that may run after an instruction. Throws where they cannot be known. */
function successorsOf(code, at) {
  const opcode = nameOf(opcodeAt(code, at))
  const next = isUnconditional(code, at) ? [] : [at + 16]
  switch (opcode) {
    case 'BRA':
      return [...next, targetOf(code, at)]
    case 'CALL.REL':
      return [at + 16, targetOf(code, at)]
    case 'BSSY': // of a branch whose sides meet at the address that it names
      return [at + 16, meetingOf(code, at)]
    case 'EXIT':
      return next
    case 'RET': // to the instruction after the call, which is among the call's successors
      return next
    case 'BRX':
    case 'BRXU':
    case 'CALL.ABS':
    case '0x14a': // jumps to an address in a register or in memory
    case '0x14c':
    case '0x159':
      throw new Error(`${opcode} before the wait, which cannot be followed`)
    default:
      return [at + 16]
  }
}

/** True at an ACQBULK that no predicate can skip. */
const isWait = (code, at) =>
  nameOf(opcodeAt(code, at)) === 'ACQBULK' && (code.readUInt16LE(at) & 0xf000) === 0x7000

/** The addresses that a thread can reach from the entry without passing an ACQBULK. */
function reachedBeforeWait(code) {
  const reached = new Set()
  const pending = [0]
  let waits = false
  while (pending.length > 0) {
    const at = pending.pop()
    if (reached.has(at)) continue
    if (at < 0 || at % 16 !== 0 || at + 16 > code.length)
      throw new Error(`a branch to ${at} of ${code.length} bytes before the wait`)
    if (isWait(code, at)) {
      waits = true
      continue
    }
    reached.add(at)
    pending.push(...successorsOf(code, at))
  }
  if (!waits) throw new Error('no thread reaches ACQBULK')
  return reached
}

/**
 * The things that a kernel does before it waits for the kernel before it (ACQBULK): {early, wrong}.
 * `early` counts instructions of global memory that a thread can run before the wait, `wrong` tells
 * in words what is never right. Undefined for a kernel that does not wait.
 */
export function inspectOrder(code) {
  const counts = countOpcodes(code)
  const waits = counts.get('ACQBULK') ?? 0
  if (waits === 0) return undefined
  const early = new Map()
  const wrong = waits > 1 ? [`${waits} ACQBULK, expected one`] : []
  let reached
  try {
    reached = reachedBeforeWait(code)
  } catch (error) {
    return { early, wrong: [...wrong, error.message] }
  }
  for (const at of reached) {
    const opcode = opcodeAt(code, at)
    const name = nameOf(opcode)
    if (name === 'PREEXIT') wrong.push('PREEXIT before the wait')
    if (name === 'EXIT') wrong.push('EXIT before the wait')
    if (isOfMemory(opcode) && !harmless.has(opcode)) early.set(name, (early.get(name) ?? 0) + 1)
  }
  return { early, wrong }
}

/**
 * The loops of a kernel, as addresses {from, to}: all that branches back to one address enclose.
 * Code ends with a branch to itself, which is none.
 */
function loopsOf(code, capability) {
  const ends = new Map()
  for (let at = 0; at + 16 <= code.length; at += 16) {
    if (nameOf(opcodeAt(code, at)) !== 'BRA') continue
    const target = targetOf(code, at, capability)
    if (target >= 0 && target < at) ends.set(target, at + 16)
  }
  return [...ends].map(([from, to]) => ({ from, to }))
}

const countOf = (counts, names) => names.reduce((sum, name) => sum + (counts.get(name) ?? 0), 0)
const products = ['HGMMA', 'HMMA', 'IMMA']

/**
 * The reasons for a loop to be the hottest, as numbers, the strongest first. It has products on
 * tensor cores that no loop inside has; no loop is inside; multiply-adds; loads; its length.
 */
function weightsOf({ from, to }, code, loops) {
  const inside = loops.filter(
    other => other.from >= from && other.to <= to && (other.from > from || other.to < to),
  )
  const isInside = at => inside.some(other => at >= other.from && at < other.to)
  let own = 0
  for (let at = from; at < to; at += 16)
    if (!isInside(at) && products.includes(nameOf(opcodeAt(code, at)))) own++
  const counts = countOpcodes(code, from, to)
  const loads = countOf(counts, ['LDG', 'LDGSTS', 'UTMALDG', 'UBLKCP'])
  return [own, inside.length === 0 ? 1 : 0, countOf(counts, ['FFMA']), loads, to - from]
}

/**
 * The loop in which a kernel is likely to spend its time: {instructions, counts}, by opcode, with
 * the loops inside. Undefined for a kernel without loops. One that is unrolled has the instructions
 * of several rounds.
 */
export function hottestLoop(code, capability) {
  const loops = loopsOf(code, capability)
  const weighed = loops.map(loop => ({ ...loop, weights: weightsOf(loop, code, loops) }))
  const order = (a, b) => {
    const i = a.weights.findIndex((weight, k) => weight !== b.weights[k])
    return i < 0 ? 0 : b.weights[i] - a.weights[i]
  }
  const [hottest] = weighed.sort(order)
  if (!hottest) return undefined
  const { from, to } = hottest
  return { instructions: (to - from) / 16, counts: countOpcodes(code, from, to) }
}
