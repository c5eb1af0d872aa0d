/** A process of mpirun's that serves rank 0: it says nothing, and ends with it. */
import { loadModel } from '../load/load.js'
import type { LoadOptions } from '../options/generate.js'
import { mpiLauncher } from '../parallel/mpi.js'
import type { Work } from './command.js'
import { loadOptions } from './generate-options.js'
import { requireModel } from './model-option.js'

type Flags = LoadOptions & { readonly model?: string }

/** True if rank 0 alone reads the command line, checks it and answers. */
export function isFollower({ parallel }: LoadOptions): boolean {
  return parallel !== undefined && (mpiLauncher()?.rank ?? 0) > 0
}

/** `lead` is the work of rank 0, or of a process without a group. */
export function inGroup(
  flags: Flags,
  lead: (work: Work) => Promise<void>,
): (work: Work) => Promise<void> {
  return isFollower(flags) ? work => follow(flags, work) : lead
}

/** Signals of mpirun's go to all ranks: rank 0 ends the group in order. */
async function follow(flags: Flags, { interrupt }: Work): Promise<void> {
  const model = await loadModel(requireModel(flags, ''), loadOptions(flags))
  await model.close()
  interrupt.forgive()
}
