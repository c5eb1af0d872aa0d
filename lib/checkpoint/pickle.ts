/**
 * An interpreter for the pickles of torch checkpoints. A pickle is a program, and Python runs it.
 * This one knows only the opcodes that a state dict is written with and only the globals that its
 * caller lists. Everything else is refused by name. It calls nothing but the caller's hooks, is not
 * recursive, and bounds its allocations.
 *
 * Source: Python's Lib/pickletools.py describes every opcode; torch writes protocol 2.
 */

import { decodeUtf8, type InputFile } from '../base/input-file.js'
import { show } from '../base/json.js'
import { MoeppError } from '../errors.js'

/**
 * The names that a pickle may use, and their meaning. Hooks may run more than once for one pickle.
 */
export interface PickleHooks {
  /** `module.name` of every class and function that may be named. */
  readonly globals: ReadonlySet<string>
  /** The value of calling `callee`; throws `bad(why)` if the arguments are wrong. */
  call(callee: string, args: readonly unknown[], bad: BadPickle): object
  /**
   * The value that stands for something stored outside of the pickle; throws `bad(why)` if there is
   * none.
   */
  persistent(id: unknown, bad: BadPickle): object
}

/** Makes the error that names the pickle, the place and the fault. */
export type BadPickle = (message: string) => MoeppError

/**
 * A tuple. Lists and dicts have classes of their own: the opcodes that fill them must not reach
 * another value.
 */
export class PickleTuple {
  constructor(readonly items: readonly unknown[]) {}
}

export class PickleList {
  readonly items: unknown[] = []
}

export class PickleDict {
  readonly entries = new Map<string | number, unknown>()
}

export class PickleGlobal {
  constructor(readonly name: string) {}
}

/** The largest real state dicts need about 150 bytes and 8 objects a tensor. */
const MAX_PICKLE_BYTES = 32_000_000
const MAX_OBJECTS = 1_000_000
const MAX_MEMO = 1_000_000
/** Python's pickler sets 1000 items of a dict at once. */
const MAX_STACK = 100_000
const FIRST_READ_BYTES = 16_384

/** Thrown, and caught in this file only, when the bytes read so far end within the pickle. */
class OutOfBytes extends Error {}

/**
 * Interprets the pickle that begins at `offset` and ends before `limit`. Its length is not known
 * beforehand: a start is read, and four times as much whenever that ends too early.
 */
export async function readPickle(
  file: InputFile,
  offset: number,
  limit: number,
  hooks: PickleHooks,
): Promise<{ value: unknown; end: number }> {
  const available = Math.min(limit, file.size) - offset
  let length = FIRST_READ_BYTES
  for (;;) {
    const bytes = await file.read(offset, Math.max(0, Math.min(length, available)), 'a pickle')
    try {
      const machine = new PickleMachine(bytes, hooks, `${file.path}: pickle at byte ${offset}`)
      const value = machine.run()
      return { value, end: offset + machine.position }
    } catch (error) {
      if (!(error instanceof OutOfBytes)) throw error
      if (length >= available) throw file.bad(`the pickle at byte ${offset} is truncated`)
      if (length >= MAX_PICKLE_BYTES) {
        throw file.bad(`the pickle at byte ${offset} is longer than ${MAX_PICKLE_BYTES} bytes`)
      }
      length = Math.min(length * 4, MAX_PICKLE_BYTES)
    }
  }
}

class PickleMachine {
  position = 0
  private readonly stack: unknown[] = []
  private readonly marks: number[] = []
  private readonly memo = new Map<number, unknown>()
  private objects = 0

  constructor(
    private readonly bytes: Buffer,
    private readonly hooks: PickleHooks,
    private readonly where: string,
  ) {}

  run(): unknown {
    for (;;) {
      const opcode = this.byte()
      if (opcode === STOP) break
      const operation = OPERATIONS.get(opcode)
      if (operation === undefined)
        throw this.unsafe(`opcode 0x${opcode.toString(16).padStart(2, '0')}`)
      operation(this)
      if (this.stack.length > MAX_STACK)
        throw this.bad(`more than ${MAX_STACK} values on the stack`)
    }
    const value = this.pop()
    if (this.stack.length + this.marks.length > 0) throw this.bad('values are left on the stack')
    return value
  }

  // Reading

  take(length: number): Buffer {
    const end = this.position + length
    if (end > this.bytes.length) throw new OutOfBytes()
    const start = this.position
    this.position = end
    return this.bytes.subarray(start, end)
  }

  byte(): number {
    return this.take(1)[0]!
  }

  text(): string {
    const length = this.take(4).readUInt32LE()
    return decodeUtf8(this.take(length), this.where)
  }

  /** Up to the next line feed. */
  line(): string {
    const end = this.bytes.indexOf(0x0a, this.position)
    if (end < 0) throw new OutOfBytes()
    const line = this.take(end - this.position).toString('utf8')
    this.position++
    return line
  }

  // The stack

  push(value: unknown): void {
    this.stack.push(value)
  }

  pushObject(value: object): void {
    this.countObjects(1)
    this.stack.push(value)
  }

  private countObjects(count: number): void {
    this.objects += count
    if (this.objects > MAX_OBJECTS) throw this.bad(`more than ${MAX_OBJECTS} objects`)
  }

  pop(): unknown {
    if (this.stack.length <= (this.marks.at(-1) ?? 0))
      throw this.bad('a value is missing on the stack')
    return this.stack.pop()
  }

  /** The last `count` values, the first pushed first. */
  popMany(count: number): unknown[] {
    const values: unknown[] = []
    while (values.length < count) values.push(this.pop())
    return values.reverse()
  }

  mark(): void {
    if (this.marks.length >= MAX_STACK) throw this.bad(`more than ${MAX_STACK} marks on the stack`)
    this.marks.push(this.stack.length)
  }

  popToMark(): unknown[] {
    const mark = this.marks.pop()
    if (mark === undefined) throw this.bad('a mark is missing on the stack')
    return this.stack.splice(mark)
  }

  // The memo

  put(index: number): void {
    const value = this.pop()
    if (this.memo.size >= MAX_MEMO) throw this.bad(`more than ${MAX_MEMO} memo entries`)
    this.memo.set(index, value)
    this.push(value)
  }

  get(index: number): void {
    if (!this.memo.has(index)) throw this.bad(`memo entry ${index} does not exist`)
    this.push(this.memo.get(index))
  }

  // Objects

  global(): void {
    const name = `${this.line()}.${this.line()}`
    if (!this.hooks.globals.has(name)) throw this.unsafe(name)
    this.pushObject(new PickleGlobal(name))
  }

  persistent(): void {
    const id = this.pop()
    this.pushObject(this.hooks.persistent(id, this.bad))
  }

  reduce(): void {
    const [callee, args] = this.popMany(2)
    if (!(callee instanceof PickleGlobal))
      throw this.unsafe('a call of something that is not a global')
    if (!(args instanceof PickleTuple))
      throw this.bad(`the arguments of ${callee.name} are not a tuple`)
    this.pushObject(this.hooks.call(callee.name, args.items, this.bad))
  }

  /** An OrderedDict's attributes (`_metadata`): checked to be no more than that, and dropped. */
  build(): void {
    const [target, state] = this.popMany(2)
    if (!(target instanceof PickleDict) || !(state instanceof PickleDict)) {
      throw this.unsafe('setting the state of something that is not a dict')
    }
    this.push(target)
  }

  setItems(items: readonly unknown[]): void {
    const target = this.pop()
    if (!(target instanceof PickleDict))
      throw this.unsafe('setting items of something that is not a dict')
    if (items.length % 2 !== 0) throw this.bad('a dict key has no value')
    this.countObjects(items.length)
    for (let index = 0; index < items.length; index += 2) {
      const key = items[index]
      if (typeof key !== 'string' && typeof key !== 'number')
        throw this.bad('a dict key is not a text or number')
      if (target.entries.has(key)) throw this.bad(`the dict key ${show(key)} occurs twice`)
      target.entries.set(key, items[index + 1])
    }
    this.push(target)
  }

  appendItems(items: readonly unknown[]): void {
    const target = this.pop()
    if (!(target instanceof PickleList))
      throw this.unsafe('appending to something that is not a list')
    this.countObjects(items.length)
    for (const item of items) target.items.push(item)
    this.push(target)
  }

  protocol(version: number): void {
    if (version !== 2) throw this.unsafe(`pickle protocol ${version} (state dicts have 2)`)
  }

  private readonly bad: BadPickle = message =>
    new MoeppError('ERR_BAD_FILE', `${this.where}: ${message} (at its byte ${this.position})`)

  private unsafe(what: string): MoeppError {
    return new MoeppError(
      'ERR_UNSAFE_FILE',
      `${this.where}: asks for ${show(what).slice(1, -1)}, which no state dict needs; refused (at its byte ${this.position})`,
    )
  }
}

const STOP = 0x2e

/** The opcodes of a state dict, by their byte. */
const OPERATIONS: ReadonlyMap<number, (machine: PickleMachine) => void> = new Map([
  [0x80, m => m.protocol(m.byte())], // PROTO
  [0x28, m => m.mark()], // MARK
  [0x4e, m => m.push(null)], // NONE
  [0x88, m => m.push(true)], // NEWTRUE
  [0x89, m => m.push(false)], // NEWFALSE
  [0x4b, m => m.push(m.byte())], // BININT1
  [0x4d, m => m.push(m.take(2).readUInt16LE())], // BININT2
  [0x4a, m => m.push(m.take(4).readInt32LE())], // BININT
  [0x8a, m => m.push(littleEndianInteger(m.take(m.byte())))], // LONG1
  [0x47, m => m.push(m.take(8).readDoubleBE())], // BINFLOAT
  [0x58, m => m.push(m.text())], // BINUNICODE
  [0x29, m => m.pushObject(new PickleTuple([]))], // EMPTY_TUPLE
  [0x85, m => m.pushObject(new PickleTuple(m.popMany(1)))], // TUPLE1
  [0x86, m => m.pushObject(new PickleTuple(m.popMany(2)))], // TUPLE2
  [0x87, m => m.pushObject(new PickleTuple(m.popMany(3)))], // TUPLE3
  [0x74, m => m.pushObject(new PickleTuple(m.popToMark()))], // TUPLE
  [0x5d, m => m.pushObject(new PickleList())], // EMPTY_LIST
  [0x61, m => m.appendItems(m.popMany(1))], // APPEND
  [0x65, m => m.appendItems(m.popToMark())], // APPENDS
  [0x7d, m => m.pushObject(new PickleDict())], // EMPTY_DICT
  [0x73, m => m.setItems(m.popMany(2))], // SETITEM
  [0x75, m => m.setItems(m.popToMark())], // SETITEMS
  [0x71, m => m.put(m.byte())], // BINPUT
  [0x72, m => m.put(m.take(4).readUInt32LE())], // LONG_BINPUT
  [0x68, m => m.get(m.byte())], // BINGET
  [0x6a, m => m.get(m.take(4).readUInt32LE())], // LONG_BINGET
  [0x63, m => m.global()], // GLOBAL
  [0x51, m => m.persistent()], // BINPERSID
  [0x52, m => m.reduce()], // REDUCE
  [0x62, m => m.build()], // BUILD
])

/** A two's complement integer; a number where a double holds it exactly, else a bigint. */
function littleEndianInteger(bytes: Uint8Array): number | bigint {
  let value = 0n
  for (let index = bytes.length - 1; index >= 0; index--)
    value = (value << 8n) | BigInt(bytes[index]!)
  value = BigInt.asIntN(8 * bytes.length, value)
  return Number.isSafeInteger(Number(value)) ? Number(value) : value
}
