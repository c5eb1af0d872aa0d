/**
 * The pickle of a torch state dict: a dict from name to tensor. Each tensor is a view (offset,
 * shape, strides) of a storage whose bytes lie elsewhere in the file.
 *
 * Source: torch/_utils.py _rebuild_tensor_v2; torch/serialization.py persistent_id.
 */

import type { InputFile } from '../base/input-file.js'
import { show } from '../base/json.js'
import { elementCount, isContiguous, isSize, isSizes, reach } from '../tensor/tensor-file.js'
import { DTYPE_SIZE, type DType, type TensorRef } from '../tensor/tensor-ref.js'
import {
  type BadPickle,
  PickleDict,
  PickleGlobal,
  type PickleHooks,
  PickleTuple,
} from './pickle.js'

/** Bytes per element of the storage classes; moepp computes with those of USABLE only. */
const STORAGE_BYTES: ReadonlyMap<string, number> = new Map([
  ['torch.FloatStorage', 4],
  ['torch.HalfStorage', 2],
  ['torch.BFloat16Storage', 2],
  ['torch.DoubleStorage', 8],
  ['torch.LongStorage', 8],
  ['torch.IntStorage', 4],
  ['torch.ShortStorage', 2],
  ['torch.CharStorage', 1],
  ['torch.ByteStorage', 1],
  ['torch.BoolStorage', 1],
  ['torch.ComplexFloatStorage', 8],
  ['torch.ComplexDoubleStorage', 16],
])

const USABLE: ReadonlyMap<string, DType> = new Map([
  ['torch.FloatStorage', 'f32'],
  ['torch.HalfStorage', 'f16'],
  ['torch.BFloat16Storage', 'bf16'],
])

const REBUILD_TENSOR = 'torch._utils._rebuild_tensor_v2'
const ORDERED_DICT = 'collections.OrderedDict'

/** A storage as a pickle names it: nothing of it has been looked at yet. */
export class Storage {
  constructor(
    /** `torch.FloatStorage`. */
    readonly type: string,
    readonly key: string,
    /** In elements of `type`. */
    readonly length: number,
  ) {}

  get elementBytes(): number {
    return STORAGE_BYTES.get(this.type)!
  }

  get byteLength(): number {
    return this.length * this.elementBytes
  }
}

/** A tensor of a state dict; it stays within its storage. */
export class StoredTensor {
  constructor(
    readonly storage: Storage,
    /** These three count elements. */
    readonly offset: number,
    readonly shape: readonly number[],
    readonly strides: readonly number[],
  ) {}

  get dtype(): DType | undefined {
    return USABLE.get(this.storage.type)
  }

  /** The reference, given where the storage begins. */
  at(dtype: DType, path: string, storageOffset: number): TensorRef {
    const size = DTYPE_SIZE[dtype]
    return {
      dtype,
      shape: this.shape,
      ...(isContiguous(this.shape, this.strides) ? {} : { strides: this.strides }),
      file: path,
      byteOffset: storageOffset + this.offset * size,
      byteLength: reach(this.shape, this.strides) * size,
    }
  }
}

export const STATE_DICT_HOOKS: PickleHooks = {
  globals: new Set([REBUILD_TENSOR, ORDERED_DICT, ...STORAGE_BYTES.keys()]),

  call(callee, args, bad) {
    if (callee === REBUILD_TENSOR) return rebuildTensor(args, bad)
    if (callee !== ORDERED_DICT) throw bad(`a call of ${callee}`)
    if (args.length > 0) throw bad(`${ORDERED_DICT} has ${args.length} arguments, expected none`)
    return new PickleDict()
  },

  persistent(id, bad) {
    const items = id instanceof PickleTuple ? id.items : []
    const [tag, type, key, location, length, view] = items
    if (tag !== 'storage' || items.length < 5 || items.length > 6 || typeof location !== 'string') {
      throw bad('a persistent id is not that of a storage')
    }
    if (!(type instanceof PickleGlobal) || !STORAGE_BYTES.has(type.name)) {
      throw bad('a storage has no storage class')
    }
    if (typeof key !== 'string') throw bad(`a storage has the key ${show(key)}, expected a text`)
    if (!isSize(length)) throw bad(`storage ${show(key)} has ${show(length)} elements`)
    // The legacy format's sixth member. torch has not written any but None since 0.4.
    if (items.length === 6 && view !== null)
      throw bad(`storage ${show(key)} is a view of another storage`)
    return new Storage(type.name, key, length)
  },
}

/**
 * The tensors of a state dict by name. Values that are no tensors have no place in a model and are
 * left out.
 */
export function stateDictTensors(value: unknown, file: InputFile): Map<string, StoredTensor> {
  if (!(value instanceof PickleDict)) throw file.bad('the pickle is not a state dict')
  const tensors = new Map<string, StoredTensor>()
  for (const [name, entry] of value.entries) {
    if (typeof name === 'string' && entry instanceof StoredTensor) tensors.set(name, entry)
  }
  return tensors
}

/** `_rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks[, metadata])`. */
function rebuildTensor(args: readonly unknown[], bad: BadPickle): StoredTensor {
  const [storage, offset] = args
  if (args.length < 6 || args.length > 7 || !(storage instanceof Storage)) {
    throw bad(`${REBUILD_TENSOR} has wrong arguments`)
  }
  const shape = tupleItems(args[2])
  const strides = tupleItems(args[3])
  if (!isSize(offset) || !isSizes(shape) || !isSizes(strides) || shape.length !== strides.length) {
    throw bad(`a tensor has offset ${show(offset)}, shape ${show(shape)}, strides ${show(strides)}`)
  }
  const count = elementCount(shape)
  // A stride of 0 lets a few bytes pose as a tensor of any size, which the loader would then
  // allocate.
  if (count === undefined || count > storage.length) {
    throw bad(
      `a tensor of shape ${show(shape)} has more elements than its storage, ${storage.length}`,
    )
  }
  const end = offset + reach(shape, strides)
  if (end > storage.length) {
    throw bad(
      `a tensor of shape ${show(shape)}, strides ${show(strides)}, offset ${offset} ends at element ${end} ` +
        `of a storage of ${storage.length}`,
    )
  }
  return new StoredTensor(storage, offset, shape, strides)
}

function tupleItems(value: unknown): unknown {
  return value instanceof PickleTuple ? value.items : value
}
