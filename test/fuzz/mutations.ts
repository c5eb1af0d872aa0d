/** Chooses a file of a folder and damages it. */

import { changedBytes } from './bytes.js'
import { changedAnswer } from './hub-answers.js'
import { changedJson } from './json.js'
import { changedProto } from './protobuf.js'
import type { Random } from './random.js'
import { changedSafetensors } from './safetensors.js'
import type { Folder } from './seeds.js'
import { changedState } from './state.js'
import { changedTorch } from './torch.js'

/** Largest input; a mutation that goes beyond is left out. */
const MOST_BYTES = 2_000_000

const CHANGES: readonly [RegExp, (bytes: Buffer, random: Random) => Buffer][] = [
  [/^answer /, changedAnswer],
  [/\.json$/, changedJson],
  [/\.safetensors$/, changedSafetensors],
  [/\.bin$/, changedTorch],
  [/^tokenizer\.model$/, changedProto],
  [/^state\.kv$/, changedState],
]

/** A few changes, mostly of files whose names match `focus`. */
export function changedFolder(folder: Folder, focus: RegExp, random: Random): Folder {
  const files = new Map(folder)
  for (let count = random.few(4); count > 0; count--) {
    const names = [...files.keys()]
    const wanted = names.filter(name => focus.test(name))
    const name = random.pick(wanted.length > 0 && !random.once(30) ? wanted : names)
    if (random.once(200) && names.length > 1) {
      files.delete(name)
      continue
    }
    const change = CHANGES.find(([pattern]) => pattern.test(name))?.[1] ?? changedBytes
    const changed = attempt(change, files.get(name)!, random)
    if (changed.length <= MOST_BYTES) files.set(name, changed)
  }
  return files
}

/** Of what is nested too deep for a change by structure, the bytes. */
function attempt(change: typeof changedBytes, bytes: Buffer, random: Random): Buffer {
  try {
    return change(bytes, random)
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    return changedBytes(bytes, random)
  }
}
