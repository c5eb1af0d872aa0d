// A rank of simulate.mjs under mpirun, or its process without a group. It measures costs, or runs
// steps, as its job says, and writes the result of it to a file.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { FAMILIES } from '../../dist/families/registry.js'
import { loadParts } from '../../dist/load/load.js'
import { resolveLoadOptions } from '../../dist/options/load.js'
import { openMpi } from '../../dist/parallel/mpi.js'
import { vanillaTwin } from '../../dist/routing/measured-cost.js'
import { measureCompute } from './measure-compute.mjs'
import { measureExchange } from './measure-exchange.mjs'
import { runSteps } from './run-steps.mjs'

const { folder, kind, ...job } = JSON.parse(process.argv[2])
const DEADLINE_MS = 120_000
const group = job.ranks > 1 || kind !== 'steps' ? openMpi(DEADLINE_MS) : undefined

/** The model; in the group if `isShared`, and else all of it at each rank. */
function load({ model, dtype, threads, isTwin, sequences, length }, isShared) {
  const options = resolveLoadOptions({
    ...{ device: 'cpu', dtype, threads, contextLength: length },
    kvCacheTokens: sequences * (Math.ceil(length / 64) * 64),
    ...(isShared && { parallel: 'mpi', parallelDeadlineMs: DEADLINE_MS }),
  })
  const change = isTwin ? vanillaTwin : undefined
  return loadParts(model, options, FAMILIES, change, isShared ? group : undefined)
}

const KINDS = {
  compute: async () => measureCompute(await load(job, false), job, group),
  exchange: () => measureExchange(job, group),
  steps: async () => runSteps(await load(job, group !== undefined), job, group),
}
const result = await KINDS[kind]()
writeFileSync(join(folder, `rank-${group?.rank ?? 0}.json`), JSON.stringify(result))
if (kind !== 'steps') await group.close()
