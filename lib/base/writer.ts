/** Tells if the process that a file's name speaks of may still run. */

import { createHash } from 'node:crypto'
import { readFileSync, readlinkSync } from 'node:fs'
import { hostname } from 'node:os'

export type Writer = 'none' | 'alive' | 'unknown'

/** The state of process `pid` of `where`, a result of `machine`. */
export function writerOf(where: string | undefined, pid: number): Writer {
  if (where === undefined) return 'none'
  if (where !== machine()) return 'unknown'
  try {
    process.kill(pid, 0)
    return 'alive'
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH' ? 'none' : 'alive'
  }
}

let known: string | undefined

/**
 * The scope of process ids: this host, since it was started, in this namespace of processes.
 * Containers may share a host's name, and machines a cache. Read at its first use: Deno grants the
 * host's name by a permission that a program without downloads need not have.
 */
export function machine(): string {
  known ??= createHash('sha256')
    .update([hostname(), bootId(), pidNamespace()].join('\n'))
    .digest('hex')
    .slice(0, 16)
  return known
}

function bootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8')
  } catch {
    return ''
  }
}

function pidNamespace(): string {
  try {
    return readlinkSync('/proc/self/ns/pid')
  } catch {
    return ''
  }
}
