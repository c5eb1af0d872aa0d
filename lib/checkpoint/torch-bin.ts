/**
 * The two formats of `torch.save`. Since torch 1.6 it is a zip of stored entries under one folder:
 * `data.pkl` (the state dict), `data/KEY` (a storage's bytes), `byteorder`. Before that it was five
 * pickles in a row: a magic number, a protocol number, facts about the machine, the state dict, the
 * storages' keys. Each storage follows in the keys' order, as an 8-byte element count and its
 * bytes.
 *
 * Source: torch/serialization.py.
 */

import { InputFile } from '../base/input-file.js'
import { show } from '../base/json.js'
import type { TensorFile } from '../tensor/tensor-file.js'
import type { TensorRef } from '../tensor/tensor-ref.js'
import { PickleDict, type PickleHooks, PickleList, readPickle } from './pickle.js'
import {
  STATE_DICT_HOOKS,
  type Storage,
  type StoredTensor,
  stateDictTensors,
} from './state-dict.js'
import { readZipDirectory, type ZipEntry, zipDataOffset } from './zip.js'

const ZIP_MAGIC = 'PK\x03\x04'
const LEGACY_MAGIC = 119547037146038801333356n
const LEGACY_PROTOCOL = 1001

/** For the pickles that hold plain values. */
const NO_GLOBALS: PickleHooks = {
  globals: new Set(),
  call(callee, _args, bad) {
    throw bad(`a call of ${callee}`)
  },
  persistent(_id, bad) {
    throw bad('a persistent id')
  },
}

export async function readTorchBin(path: string): Promise<TensorFile> {
  return InputFile.with(path, async file => {
    const start = await file.read(0, Math.min(4, file.size), 'the start')
    if (start.toString('latin1') === ZIP_MAGIC) return readZip(file)
    // PROTO 2: how every legacy file begins.
    if (start[0] === 0x80 && start[1] === 2) return readLegacy(file)
    throw file.bad('neither of the formats of torch.save (a zip, or pickles before torch 1.6)')
  })
}

async function readZip(file: InputFile): Promise<TensorFile> {
  const entries = await readZipDirectory(file)
  const folder = archiveFolder(file, entries)
  await checkByteOrder(file, entries.get(`${folder}/byteorder`))

  const pickle = entries.get(`${folder}/data.pkl`)!
  const pickleOffset = await zipDataOffset(file, pickle)
  const { value } = await readPickle(
    file,
    pickleOffset,
    pickleOffset + pickle.size,
    STATE_DICT_HOOKS,
  )

  const offsets = new Map<string, number>()
  return toTensorFile(file, stateDictTensors(value, file), async storage => {
    const entry = entries.get(`${folder}/data/${storage.key}`)
    if (entry === undefined) throw file.bad(`storage ${show(storage.key)} is not in the file`)
    if (entry.size < storage.byteLength) {
      throw file.bad(
        `storage ${show(storage.key)} has ${entry.size} bytes, ` +
          `expected ${storage.byteLength} (${storage.length} of ${storage.type})`,
      )
    }
    const offset = offsets.get(storage.key) ?? (await zipDataOffset(file, entry))
    offsets.set(storage.key, offset)
    return offset
  })
}

/** The name of the one folder that all entries share. */
function archiveFolder(file: InputFile, entries: ReadonlyMap<string, ZipEntry>): string {
  const folders = [...entries.keys()].filter(name => /^[^/]+\/data\.pkl$/.test(name))
  if (folders.length === 1) return folders[0]!.slice(0, -'/data.pkl'.length)
  throw file.bad(`a zip with ${folders.length} entries FOLDER/data.pkl, expected one`)
}

/** The entry is missing from files of torch before 2.0, which were little-endian by convention. */
async function checkByteOrder(file: InputFile, entry: ZipEntry | undefined): Promise<void> {
  if (entry === undefined) return
  const offset = await zipDataOffset(file, entry)
  const order = (await file.read(offset, Math.min(entry.size, 16), 'byteorder')).toString('latin1')
  if (order !== 'little') throw file.bad(`byteorder is ${show(order)}, expected "little"`)
}

async function readLegacy(file: InputFile): Promise<TensorFile> {
  let at = 0
  const next = async (hooks: PickleHooks) => {
    const { value, end } = await readPickle(file, at, file.size, hooks)
    at = end
    return value
  }
  const magic = await next(NO_GLOBALS)
  if (magic !== LEGACY_MAGIC)
    throw file.bad('a pickle, but not one that torch.save wrote (magic number)')
  const protocol = await next(NO_GLOBALS)
  if (protocol !== LEGACY_PROTOCOL)
    throw file.bad(`torch protocol ${show(protocol)}, expected ${LEGACY_PROTOCOL}`)
  const system = await next(NO_GLOBALS)
  if (!(system instanceof PickleDict) || system.entries.get('little_endian') !== true) {
    throw file.bad('little_endian is not true')
  }
  const tensors = stateDictTensors(await next(STATE_DICT_HOOKS), file)
  const keys = await next(NO_GLOBALS)
  if (!(keys instanceof PickleList))
    throw file.bad('the fifth pickle is not the list of storage keys')

  const offsets = await layOutStorages(file, at, keys.items, storagesByKey(file, tensors))
  return toTensorFile(file, tensors, async storage => {
    const offset = offsets.get(storage.key)
    if (offset === undefined) throw file.bad(`storage ${show(storage.key)} is not in the file`)
    return offset
  })
}

function storagesByKey(
  file: InputFile,
  tensors: ReadonlyMap<string, StoredTensor>,
): Map<string, Storage> {
  const storages = new Map<string, Storage>()
  for (const { storage } of tensors.values()) {
    const known = storages.get(storage.key) ?? storage
    if (known.type !== storage.type || known.length !== storage.length) {
      throw file.bad(`storage ${show(storage.key)} is described in two ways`)
    }
    storages.set(storage.key, storage)
  }
  return storages
}

/** The start of each storage's bytes. They follow one another up to the end of the file. */
async function layOutStorages(
  file: InputFile,
  start: number,
  keys: readonly unknown[],
  storages: ReadonlyMap<string, Storage>,
): Promise<Map<string, number>> {
  const offsets = new Map<string, number>()
  let at = start
  for (const key of keys) {
    const storage = typeof key === 'string' ? storages.get(key) : undefined
    if (storage === undefined) throw file.bad(`storage ${show(key)} belongs to no tensor`)
    if (offsets.has(storage.key)) throw file.bad(`storage ${show(key)} is listed twice`)
    const length = (
      await file.read(at, 8, `the element count of storage ${show(key)}`)
    ).readBigInt64LE()
    if (length !== BigInt(storage.length)) {
      throw file.bad(`storage ${show(key)} has ${length} elements, expected ${storage.length}`)
    }
    offsets.set(storage.key, at + 8)
    at += 8 + storage.byteLength
    if (at > file.size)
      throw file.bad(`storage ${show(key)} ends at byte ${at}, the file has ${file.size}`)
  }
  if (at !== file.size) throw file.bad(`the storages end at byte ${at}, the file has ${file.size}`)
  return offsets
}

async function toTensorFile(
  file: InputFile,
  stored: ReadonlyMap<string, StoredTensor>,
  storageOffset: (storage: Storage) => Promise<number>,
): Promise<TensorFile> {
  const tensors = new Map<string, TensorRef>()
  const unusable = new Map<string, string>()
  for (const [name, tensor] of stored) {
    const { dtype } = tensor
    const offset = await storageOffset(tensor.storage)
    if (dtype === undefined) unusable.set(name, tensor.storage.type)
    else tensors.set(name, tensor.at(dtype, file.path, offset))
  }
  return { tensors, packed: new Map(), unusable }
}
