/** Compiles the library that joins ranks, against the MPI of this machine. */
import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { MoeppError } from '../errors.js'
import { type MpiFamily, type MpiLibrary, mpiFileName, mpiFolder, mpiSource } from './mpi.js'

const run = promisify(execFile)

/** Lines that the preprocessor fills with the numbers of mpi.h. */
const QUESTION = `#include <mpi.h>
moepp openmpi OMPI_MAJOR_VERSION . OMPI_MINOR_VERSION . OMPI_RELEASE_VERSION
moepp mpich MPICH_VERSION
moepp mpi MPI_VERSION . MPI_SUBVERSION
`

/**
 * @param mpicc the compiler of the MPI
 * @throws MoeppError ERR_UNSUPPORTED without an MPI, ERR_CANNOT_WRITE
 */
export async function buildMpi(mpicc: string, env = process.env): Promise<MpiLibrary> {
  const folder = mpiFolder(env)
  const work = await workFolder(folder)
  try {
    const question = join(work, 'question.c')
    await writeFile(question, QUESTION)
    const found = versionOf(await compile(mpicc, ['-E', question]))
    const made = join(work, 'library.so')
    await compile(mpicc, ['-shared', '-fPIC', '-O2', '-o', made, mpiSource().source])
    const path = join(folder, mpiFileName(found))
    await rename(made, path)
    return { ...found, path }
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

async function workFolder(folder: string): Promise<string> {
  try {
    await mkdir(folder, { recursive: true })
    return await mkdtemp(join(folder, 'build-'))
  } catch (cause) {
    throw new MoeppError('ERR_CANNOT_WRITE', `${folder}: ${(cause as Error).message}`, { cause })
  }
}

async function compile(mpicc: string, args: readonly string[]): Promise<string> {
  try {
    const { stdout } = await run(mpicc, args, { maxBuffer: 2 ** 26 })
    return stdout
  } catch (cause) {
    const { code, stderr } = cause as NodeJS.ErrnoException & { stderr?: string }
    const why =
      code === 'ENOENT'
        ? 'there is no such program; install an MPI with its compiler (Debian: libopenmpi-dev, or mpich), or name ' +
          'the compiler: moepp build-mpi --mpicc PATH'
        : `cannot compile: ${stderr?.trim().slice(-2000) || (cause as Error).message}`
    throw new MoeppError('ERR_UNSUPPORTED', `${mpicc}: ${why}`, { cause })
  }
}

/** A name that mpi.h does not define stays a word. */
function versionOf(preprocessed: string): Omit<MpiLibrary, 'path'> {
  for (const family of ['openmpi', 'mpich', 'mpi'] satisfies MpiFamily[]) {
    const [, words = ''] = new RegExp(`^moepp ${family} (.*)$`, 'm').exec(preprocessed) ?? []
    const version = words.replaceAll(/[\s"]/g, '')
    if (/^\d[\w.]*$/.test(version)) return { family, version }
  }
  throw new MoeppError(
    'ERR_UNSUPPORTED',
    'mpi.h: it names no version, expected the header of an MPI',
  )
}
