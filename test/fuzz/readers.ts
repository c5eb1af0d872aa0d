/** Reads inputs in memory, and a hub's answers into a cache on a real disk. */

import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Format } from './formats.js'
import { FOLDER, MemoryFolder } from './memory-folder.js'
import { judge, type Outcome } from './oracle.js'
import type { Folder } from './seeds.js'

/** Of a worker: a folder of its supervisor's, which outlives it. */
export const SCRATCH = 'MOEPP_FUZZ_SCRATCH'

/** A new directory, in memory where the system has such a place. */
export function scratch(): string {
  const memory = existsSync('/dev/shm') ? '/dev/shm' : tmpdir()
  return mkdtempSync(join(process.env[SCRATCH] ?? memory, 'moepp-fuzz-'))
}

export interface Reader {
  run(format: Format, files: Folder): Promise<Outcome>
  close(): void
}

/** Reads in process. One at a time: it stands in for the file system. */
export class ParserReader implements Reader {
  readonly #memory = new MemoryFolder()
  readonly #allocations = watchAllocations()
  readonly #cache = scratch()

  async run(format: Format, files: Folder): Promise<Outcome> {
    const codes = new Set(format.codes)
    // Files from a hub are written to a disk.
    if (format.name === 'hub')
      return judge(() => format.read({ directory: this.#cache, files }), codes)
    const memory = this.#memory
    this.#allocations.largest = 0
    memory.files = files
    memory.offences.length = 0
    memory.openHandles = 0
    memory.active = true
    const outcome = await judge(() => format.read({ directory: FOLDER, files }), codes)
    memory.active = false
    let size = 0
    for (const bytes of files.values()) size += bytes.length
    const wrong =
      memory.offences[0] ??
      (memory.openHandles > 0 ? 'a file is left open' : undefined) ??
      (this.#allocations.largest > 2 * size + 65_536
        ? 'more is allocated than the files hold'
        : undefined)
    return wrong && !outcome.finding ? { ...outcome, finding: wrong } : outcome
  }

  close(): void {
    this.#memory.restore()
    this.#allocations.undo()
    rmSync(this.#cache, { recursive: true })
  }
}

/** The largest Buffer at once. */
function watchAllocations() {
  const watched = { largest: 0, undo: () => {} }
  const { alloc } = Buffer
  Buffer.alloc = (size: number, ...rest: []) => {
    watched.largest = Math.max(watched.largest, size)
    return alloc(size, ...rest)
  }
  watched.undo = () => {
    Buffer.alloc = alloc
  }
  return watched
}
