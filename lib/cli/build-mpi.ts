/** `moepp build-mpi`: makes what `--expert-parallel` needs, once on each machine. */
import { Command, Option } from 'commander'
import { buildMpi } from '../parallel/build-mpi.js'
import { MPI_NAMES } from '../parallel/mpi.js'
import type { CreateCommand } from './command.js'

export const buildMpiCommand: CreateCommand = terminal =>
  new Command('build-mpi')
    .description('Compiles the small library that --expert-parallel needs, against the MPI here.')
    .addOption(
      new Option('--mpicc <program>', "the MPI's C compiler").env('MPICC').default('mpicc'),
    )
    .addHelpText('after', EXPLANATION)
    .action(async ({ mpicc }: { mpicc: string }) => {
      const { family, version, path } = await buildMpi(mpicc)
      await terminal.write(`${MPI_NAMES[family]} ${version}: ${path}\n`)
    })

const EXPLANATION = `
It takes a second, and goes to your own cache. Each MPI has a library of its own: run it again with
the compiler of another MPI, or after an update of yours.

Examples:
  $ moepp build-mpi
  $ moepp build-mpi --mpicc mpicc.mpich
  $ mpirun -n 4 moepp generate --model npm:moepp-books-7m --expert-parallel "The old man"
`
