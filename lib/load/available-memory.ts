/** Reads how much memory of the host is available to this process. */
import { readFileSync } from 'node:fs'
import { totalmem } from 'node:os'

/** Files of a control group about its memory: version 2, and version 1. */
const GROUP_FILES = {
  v2: {
    limit: 'memory.max',
    usage: 'memory.current',
    // Memory that the kernel can drop at the group's limit: the page cache, and its own caches.
    reclaimable: ['active_file', 'inactive_file', 'slab_reclaimable'],
  },
  v1: {
    limit: 'memory.limit_in_bytes',
    usage: 'memory.usage_in_bytes',
    reclaimable: ['total_active_file', 'total_inactive_file'],
  },
} as const

/**
 * Bytes that this process can still have before the system is out of memory, or a control group
 * ends it. The page cache counts as available, and so does swap, where it may be used. On systems
 * without /proc/meminfo it is all of the machine's memory: they rather swap than kill. It is
 * Infinity if the runtime does not permit to ask (Deno without --allow-sys).
 *
 * @param root where /proc and /sys are looked for
 */
export function availableMemory(root = ''): number {
  const meminfo = fields(readOrEmpty(`${root}/proc/meminfo`))
  const available = meminfo.get('MemAvailable')
  if (available === undefined) return permitted(totalmem, Infinity)
  const swap = 1024 * (meminfo.get('SwapFree') ?? 0)
  const rooms = groupsOf(root).map(({ directory, version }) => room(directory, version, swap))
  return Math.max(0, Math.min(1024 * available + swap, ...rooms))
}

/** The system's answer, or `otherwise` where a runtime's permissions forbid to ask. */
export function permitted<T>(ask: () => T, otherwise: T): T {
  try {
    return ask()
  } catch {
    return otherwise
  }
}

interface Group {
  readonly directory: string
  readonly version: keyof typeof GROUP_FILES
}

/**
 * The process's control groups and their parents. In a container the path of the host may not
 * exist, but the mount's root, which is the container's group, does.
 */
function groupsOf(root: string): Group[] {
  const groups: Group[] = []
  for (const line of readOrEmpty(`${root}/proc/self/cgroup`).split('\n')) {
    const [, controllers, path] = /^\d+:([^:]*):(.*)$/.exec(line) ?? []
    if (controllers === undefined || path === undefined) continue
    const version = controllers === '' ? 'v2' : 'v1'
    if (version === 'v1' && !controllers.split(',').includes('memory')) continue
    const mounts = version === 'v2' ? ['', '/unified'] : ['/memory']
    for (const mount of mounts) {
      for (const folder of withParents(path))
        groups.push({ directory: `${root}/sys/fs/cgroup${mount}${folder}`, version })
    }
  }
  return groups
}

/** `/a/b` is /a/b, /a and the empty path. */
function withParents(path: string): string[] {
  const parts = path.split('/').filter(part => part !== '')
  return Array.from({ length: parts.length + 1 }, (_, i) =>
    parts.slice(0, parts.length - i).reduce((folder, part) => `${folder}/${part}`, ''),
  )
}

/** Bytes that a group leaves; Infinity without a limit. */
function room(directory: string, version: Group['version'], freeSwap: number): number {
  const files = GROUP_FILES[version]
  const limit = readNumber(`${directory}/${files.limit}`)
  const usage = readNumber(`${directory}/${files.usage}`)
  if (limit === undefined || usage === undefined) return Infinity
  const stat = fields(readOrEmpty(`${directory}/memory.stat`))
  const reclaimable = files.reclaimable.reduce((sum, name) => sum + (stat.get(name) ?? 0), 0)
  return limit - Math.max(0, usage - reclaimable) + swapRoom(directory, version, freeSwap)
}

/** Swap that a group may still use. Of version 1 none is counted. */
function swapRoom(directory: string, version: Group['version'], freeSwap: number): number {
  if (version === 'v1') return 0
  const limit = readNumber(`${directory}/memory.swap.max`)
  if (limit === undefined) return freeSwap
  return Math.min(
    freeSwap,
    Math.max(0, limit - (readNumber(`${directory}/memory.swap.current`) ?? 0)),
  )
}

/** Lines like `MemAvailable:   123 kB` and `anon 123`. */
function fields(text: string): ReadonlyMap<string, number> {
  const lines = [...text.matchAll(/^(\w+):? +(\d+)/gm)]
  return new Map(lines.map(([, name, value]) => [name!, Number(value)]))
}

/** Undefined for `max`, and without the file. */
function readNumber(path: string): number | undefined {
  const text = readOrEmpty(path).trim()
  return /^\d+$/.test(text) ? Number(text) : undefined
}

function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
