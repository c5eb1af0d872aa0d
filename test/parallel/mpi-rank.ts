/**
 * A rank of the MPI tests, started by mpirun: `mpi-rank.js LIBRARY DEADLINE_MS MODE FOLDER`. It
 * exchanges mail with the others and checks it, and in the middle does what the mode says, if it is
 * the last rank. A file in the folder says how it ended: mpirun loses and mixes output.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fromNative, loadBinding, type NativeGroup } from '../../lib/addon/binding.js'
import type { MoeppError } from '../../lib/errors.js'
import { runRoutedSteps } from './routed-program.js'

const ROUNDS = 60
const LARGE = 3_000_000

const [library, deadline, mode, folder] = process.argv.slice(2)
const binding = loadBinding()

const mail = ({ rank, size }: NativeGroup, round: number, length = 20) =>
  Array.from({ length: size }, (_, to) =>
    new Uint8Array(length).fill((100 * round + 10 * rank + to) % 251),
  )

/** Short messages, which MPI sends at once, and long ones, which are asked for. */
async function exchange(group: NativeGroup, round: number): Promise<void> {
  const length = round % 10 === 9 ? LARGE : round
  const received = await group.exchange(mail(group, round, length), round % 2 === 1)
  for (const [from, message] of received.entries()) {
    const expected = (100 * round + 10 * from + group.rank) % 251
    if (message.length !== length || message.some(byte => byte !== expected))
      throw new Error(`round ${round}: wrong mail from rank ${from}`)
  }
}

/** Resolves never. The group stays alive: one that is collected says so to the others. */
const hang = (group: NativeGroup) => new Promise<void>(() => setInterval(() => group.rank, 1000))

async function misbehave(group: NativeGroup): Promise<void> {
  if (mode === 'kill') process.kill(process.pid, 'SIGKILL')
  if (mode === 'stop') process.kill(process.pid, 'SIGSTOP')
  if (mode === 'hang') await hang(group)
  if (mode === 'exit') process.exit(5)
  if (mode === 'throw') throw new Error('a fault of a test')
  if (mode === 'abort') group.abort('a fault of a test')
  if (mode === 'other') await group.close()
}

const report = (ended: object) =>
  writeFileSync(join(folder!, `${process.pid}.json`), JSON.stringify(ended))

async function run(group: NativeGroup): Promise<string> {
  for (let round = 0; round < ROUNDS; round++) {
    if (round === ROUNDS / 2 && group.rank === group.size - 1) await misbehave(group)
    await exchange(group, round)
  }
  return mode === 'steps' ? await runRoutedSteps(group) : ''
}

async function main(): Promise<void> {
  let rank = -1
  try {
    const options = { kind: 'mpi', library: library!, deadlineMs: Number(deadline) } as const
    const first = binding.openGroup(options)
    rank = first.rank
    const results = await run(first)
    await first.close()
    // Another model in the same processes.
    const second = binding.openGroup(options)
    await exchange(second, 1)
    await second.close()
    report({ rank, size: second.size, results })
  } catch (error) {
    const { code, message } = fromNative(error) as MoeppError
    report({ rank, code, message })
    process.exitCode = 1
  }
}

await main()
