/** A rank of real processes reads and holds its own experts, and what all ranks share. */
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import t from 'tap'
import { root } from '../support/golden.js'
import { eachMpi, env, type Mpi } from './mpirun.js'

/** Of a rank, in bytes: bench/parallel-load.mjs measures them. */
interface Load {
  /** Stored tensors that the rank needs. */
  readonly storedBytes: number
  readonly readBytes: number
  /** Memory of its own, and pages of files in its memory. */
  readonly ownBytes: number
  readonly mappedBytes: number
}

interface Row {
  readonly format: string
  readonly ranks: number
  readonly fileBytes: number
  readonly each: readonly Load[]
}

function measure({ mpirun, mpicc, args }: Mpi, folder: string): Row[] {
  const script = join(root, 'bench', 'parallel-load.mjs')
  const words = [
    ...['large-experts', '--ranks=1,2', `--folder=${folder}`, '--json', `--mpicc=${mpicc}`],
    `--mpirun=${[mpirun, ...args].join(' ')}`,
  ]
  return JSON.parse(execFileSync(process.execPath, [script, ...words], { env, encoding: 'utf8' }))
}

await eachMpi(mpi => {
  t.test(mpi.name, async t => {
    // In the checkout: a temporary folder may be in memory, whose reading nothing counts.
    const rows = measure(mpi, t.testdir())
    for (const format of ['bf16 in shards', 'int4 packed']) {
      const [whole, half] = rows.filter(row => row.format === format) as [Row, Row]
      const [alone] = whole.each as [Load]
      if (alone.readBytes < alone.storedBytes / 2) {
        t.comment(`${format}: this file system does not count what is read`)
        continue
      }
      t.equal(half.each.length, 2)
      for (const rank of half.each) {
        const words = `${format}: ${JSON.stringify(rank)}`
        const others = alone.storedBytes - rank.storedBytes
        t.ok(others > 0.35 * alone.storedBytes, 'half of the experts are most of a half')
        // The system reads on past the end of each part: up to 16 MiB where it reads ahead most.
        t.ok(rank.readBytes < rank.storedBytes + others / 2, `reads its part alone; ${words}`)
        const kind = format === 'int4 packed' ? 'mappedBytes' : 'ownBytes'
        t.ok(alone[kind] - rank[kind] > 0.8 * others, `holds its part alone; ${words}`)
        t.ok(rank[kind] > 0.5 * rank.storedBytes, 'and holds it')
      }
    }
  })
})
