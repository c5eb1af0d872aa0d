/** Available memory, in machines and control groups made of files. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { totalmem } from 'node:os'
import { dirname, join } from 'node:path'
import t from 'tap'
import { availableMemory, permitted } from '../../lib/load/available-memory.js'

const MB = 2 ** 20

/** The root of a machine with these files. */
function machine(
  t: { testdir(): string },
  files: Readonly<Record<string, string | number>>,
): string {
  const root = t.testdir()
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true })
    writeFileSync(join(root, path), `${text}\n`)
  }
  return root
}

const meminfo = (availableMb: number, swapMb = 0) =>
  `MemTotal: 64000000 kB\nMemFree: 1000 kB\nMemAvailable:  ${availableMb * 1024} kB\n` +
  `SwapTotal: 99999999 kB\nSwapFree: ${swapMb * 1024} kB`

t.test('a machine without limits: what the system says, page cache and swap included', async t => {
  t.equal(availableMemory(machine(t, { 'proc/meminfo': meminfo(8000) })), 8000 * MB)
  const swapping = { 'proc/meminfo': meminfo(8000, 500), 'proc/self/cgroup': '0::/\n' }
  t.equal(availableMemory(machine(t, swapping)), 8500 * MB)
})

t.test('another system: all of its memory', async t => {
  t.equal(availableMemory(machine(t, {})), totalmem())
})

t.test('a runtime that forbids to ask: no limit is known', async t => {
  const forbidden = () => {
    throw new Error('Requires sys access')
  }
  t.equal(permitted(forbidden, Infinity), Infinity)
  t.equal(
    permitted(() => 1, Infinity),
    1,
  )
})

t.test('version 2: the least of a group and its parents, without the page cache', async t => {
  const group = 'sys/fs/cgroup/system.slice/docker-1'
  const files = {
    'proc/meminfo': meminfo(8000),
    'proc/self/cgroup': '0::/system.slice/docker-1',
    [`${group}/memory.max`]: 1000 * MB,
    [`${group}/memory.current`]: 900 * MB,
    [`${group}/memory.stat`]: `anon ${100 * MB}\nactive_file ${300 * MB}\ninactive_file ${400 * MB}`,
  }
  t.equal(availableMemory(machine(t, files)), 800 * MB)
  const parent = {
    'sys/fs/cgroup/system.slice/memory.max': 700 * MB,
    'sys/fs/cgroup/system.slice/memory.current': 200 * MB,
  }
  t.equal(availableMemory(machine(t, { ...files, ...parent })), 500 * MB)
  t.equal(availableMemory(machine(t, { ...files, [`${group}/memory.max`]: 'max' })), 8000 * MB)
  const full = { ...files, [`${group}/memory.stat`]: '', [`${group}/memory.max`]: 50 * MB }
  t.equal(availableMemory(machine(t, full)), 0)
})

t.test('version 2: swap that the group may use', async t => {
  const files = {
    'proc/meminfo': meminfo(8000, 300),
    'proc/self/cgroup': '0::/a',
    'sys/fs/cgroup/a/memory.max': 1000 * MB,
    'sys/fs/cgroup/a/memory.current': 0,
  }
  const swap = (max: number | string) => ({
    ...files,
    'sys/fs/cgroup/a/memory.swap.max': max,
    'sys/fs/cgroup/a/memory.swap.current': 10 * MB,
  })
  t.equal(availableMemory(machine(t, swap(0))), 1000 * MB)
  t.equal(availableMemory(machine(t, swap(110 * MB))), 1100 * MB)
  t.equal(availableMemory(machine(t, swap('max'))), 1300 * MB)
})

t.test("a container: the mount's root is its group", async t => {
  const files = {
    'proc/meminfo': meminfo(8000),
    'proc/self/cgroup': '0::/../../not/here',
    'sys/fs/cgroup/memory.max': 400 * MB,
    'sys/fs/cgroup/memory.current': 100 * MB,
  }
  t.equal(availableMemory(machine(t, files)), 300 * MB)
})

t.test('version 1', async t => {
  const files = {
    'proc/meminfo': meminfo(8000),
    'proc/self/cgroup': '9:cpu,cpuacct:/x\n5:memory:/docker/1\n0::/y',
    'sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes': 600 * MB,
    'sys/fs/cgroup/memory/docker/1/memory.usage_in_bytes': 300 * MB,
    'sys/fs/cgroup/memory/docker/1/memory.stat': `cache 5\ntotal_inactive_file ${100 * MB}`,
    // No limit, as version 1 writes it.
    'sys/fs/cgroup/memory/memory.limit_in_bytes': '9223372036854771712',
    'sys/fs/cgroup/memory/memory.usage_in_bytes': 300 * MB,
  }
  t.equal(availableMemory(machine(t, files)), 400 * MB)
})

t.test('this machine', async t => {
  t.ok(availableMemory() > 10 * MB)
})
