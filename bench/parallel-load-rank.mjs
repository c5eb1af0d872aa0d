// A rank of parallel-load.mjs. It loads its copy of the checkpoint, and takes part in the computing
// of a text that uses all experts. Then it writes the bytes that it has read, and those it holds.
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { FAMILIES } from '../dist/families/registry.js'
import { Model } from '../dist/generation/model.js'
import { loadParts } from '../dist/load/load.js'
import { resolveLoadOptions } from '../dist/options/load.js'
import { openMpi } from '../dist/parallel/mpi.js'

const TOKENS = 400

const { models, folder } = JSON.parse(process.argv[2])
const options = resolveLoadOptions({
  device: 'cpu',
  threads: 1,
  parallel: 'mpi',
  contextLength: 512,
})
const group = openMpi(options.parallelDeadlineMs)

/** A number of a file of /proc/self. */
const read = (file, name) => {
  const [, value] = new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(
    readFileSync(`/proc/self/${file}`, 'utf8'),
  )
  return Number(value)
}
const usage = () => ({
  readBytes: read('io', 'read_bytes'),
  ownBytes: 1024 * read('status', 'RssAnon'),
  mappedBytes: 1024 * read('status', 'RssFile'),
})

const before = usage()
const parts = await loadParts(models[group.rank], options, FAMILIES, undefined, group)
const model = new Model(parts)
const computed = join(folder, 'computed')
if (group.rank === 0) {
  const { vocabSize } = model.config
  await model.forward(Array.from({ length: TOKENS }, (_, i) => 3 + ((i * 7919) % (vocabSize - 3))))
  writeFileSync(computed, '')
} else while (!existsSync(computed)) await sleep(20)
const after = usage()
const stored = parts.spec.weights.flatMap(({ parts }) => parts)
const result = {
  storedBytes: stored.reduce((sum, { byteLength }) => sum + byteLength, 0),
  ...Object.fromEntries(Object.keys(after).map(name => [name, after[name] - before[name]])),
}
writeFileSync(join(folder, `${group.rank}.json`), JSON.stringify(result))
// All have measured before the first gives its memory back.
const all = Array.from({ length: group.size }, (_, rank) => join(folder, `${rank}.json`))
while (!all.every(existsSync)) await sleep(20)
await model.close()
