// Bytes that each rank of a group reads of a checkpoint, and memory that it holds then. Formats are
// safetensors in shards, and int4 packed for mapping. Linux alone tells both numbers.
//
//   npm run bench -- parallel-load [SHAPE] [--layers=12] [--ranks=1,2,4] [--folder=DIR] [--json]
//     [--mpirun="mpirun --oversubscribe"] [--mpicc=mpicc]
//
// Each rank has a copy of the checkpoint, as on a machine of its own. No page of it is cached when
// a group begins, so that the system's count of a process is all that it reads.
import { execFileSync, spawnSync } from 'node:child_process'
import {
  closeSync,
  cpSync,
  existsSync,
  fsyncSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
} from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { convertCheckpoint } from '../dist/convert/convert.js'
import { buildMpi } from '../dist/parallel/build-mpi.js'
import { count, listOf, present, readArguments, text } from './arguments.mjs'
import { SYNTHETIC, synthetic } from './synthetic.mjs'

const {
  shape = '0.6b',
  layers,
  ranks: sizes = [1, 2, 4],
  folder = fileURLToPath(new URL('../.cache/synthetic/', import.meta.url)),
  json = false,
  mpirun = 'mpirun --oversubscribe',
  mpicc = 'mpicc',
} = readArguments(
  process.argv.slice(2),
  {
    ...{ shape: SYNTHETIC.shape, layers: count, ranks: listOf(count), folder: text, json: present },
    ...{ mpirun: text, mpicc: text },
  },
  'shape',
)
const child = join(import.meta.dirname, 'parallel-load-rank.mjs')
const SHARD_BYTES = 2 ** 28

/** The checkpoint in both formats, by name. */
async function checkpoints(work) {
  const source = synthetic(shape, { layers, folder })
  const sharded = join(work, 'sharded')
  const packed = join(work, 'packed')
  await convertCheckpoint(source, sharded, { maxShardBytes: SHARD_BYTES })
  await convertCheckpoint(source, packed, { dtype: 'int4', maxShardBytes: SHARD_BYTES })
  return { 'bf16 in shards': sharded, 'int4 packed': packed }
}

/** A copy for each rank. */
function copies(directory, ranks) {
  const all = [...Array(ranks).keys()].map(rank =>
    rank === 0 ? directory : `${directory}-${rank}`,
  )
  for (const copy of all) if (!existsSync(copy)) cpSync(directory, copy, { recursive: true })
  return all
}

/** The file's pages leave memory once they are on the disk. */
function forget(file) {
  const handle = openSync(file, 'r+')
  fsyncSync(handle)
  closeSync(handle)
  execFileSync('dd', [`if=${file}`, 'iflag=nocache', 'count=0', 'status=none'])
}

const filesOf = directory => readdirSync(directory).map(name => join(directory, name))
const bytesOf = directory => filesOf(directory).reduce((sum, file) => sum + statSync(file).size, 0)

/** A group's ranks: what each has read, and what it holds. */
function measure(directory, ranks) {
  const models = copies(directory, ranks)
  for (const file of models.flatMap(filesOf)) forget(file)
  const results = mkdtempSync(`${directory}-ranks-`)
  const [command, ...args] = mpirun.split(' ')
  const words = JSON.stringify({ models, folder: results })
  const options = { stdio: ['ignore', 'ignore', 'inherit'] }
  const all = [...args, '-n', String(ranks), process.execPath, child, words]
  const { status } = spawnSync(command, all, options)
  if (status !== 0) throw new Error(`${command}: status ${status}`)
  return [...Array(ranks).keys()].map(rank =>
    JSON.parse(readFileSync(join(results, `${rank}.json`), 'utf8')),
  )
}

await buildMpi(mpicc)
const work = mkdtempSync(join(folder, 'ranks-'))
try {
  const formats = await checkpoints(work)
  // Once for the code, whose first reading counts, too.
  measure(formats['int4 packed'], 1)
  const rows = Object.entries(formats).flatMap(([format, directory]) =>
    sizes.map(ranks => {
      return { format, ranks, fileBytes: bytesOf(directory), each: measure(directory, ranks) }
    }),
  )
  if (json) console.log(JSON.stringify(rows))
  else print(rows)
} finally {
  rmSync(work, { recursive: true, force: true })
}

function print(rows) {
  const megabytes = bytes => (bytes / 1e6).toFixed(0)
  const range = (each, field) => {
    const values = each.map(rank => rank[field])
    const [least, most] = [Math.min(...values), Math.max(...values)].map(megabytes)
    return least === most ? most : `${least} to ${most}`
  }
  console.log('MB of each rank | of the files | its part | read | own memory | of files in memory')
  for (const { format, ranks, fileBytes, each } of rows) {
    const fields = ['storedBytes', 'readBytes', 'ownBytes', 'mappedBytes'].map(f => range(each, f))
    console.log([`${format}, ${ranks}`, megabytes(fileBytes), ...fields].join(' | '))
  }
}
