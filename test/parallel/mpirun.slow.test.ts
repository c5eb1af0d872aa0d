/** Models on ranks under the mpirun of real MPIs. */
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { BOOKS, MAIN } from '../cli/run-cli.js'
import { caseNames, FAMILIES, goldenCase } from '../support/golden.js'
import { random } from '../support/random.js'
import { eachMpi, type Mpi, type Started, start } from './mpirun.js'
import type { Results } from './rank-texts.js'

const TEXTS = join(import.meta.dirname, 'rank-texts.js')
/** By name: the bundled model, and every golden case. */
const MODELS = new Map([
  ['books-7m', BOOKS],
  ...FAMILIES.flatMap(family =>
    caseNames(family).map(name => [`${family}/${name}`, goldenCase(name, family)] as const),
  ),
])

/** The results of all models, by one process. */
const alone = new Map<string, Results>()
{
  const options = { encoding: 'utf8', maxBuffer: 1 << 28 } as const
  const text = execFileSync(process.execPath, [TEXTS, 'alone', ...MODELS.values()], options)
  const results: Results[] = JSON.parse(text)
  for (const [i, name] of [...MODELS.keys()].entries()) alone.set(name, results[i]!)
}

/** A server of a group, once it listens. */
async function serve(mpi: Mpi, ranks: number, args: readonly string[] = [], survive = false) {
  const model = ['--model', BOOKS, '--threads', '1', '--port', '0', '--log-level', 'silent']
  const started = start(
    mpi,
    ranks,
    [MAIN, 'serve', '--expert-parallel', ...model, ...args],
    survive,
  )
  let text = ''
  while (!/http:\S+/.test(text)) {
    const [part] = await once(started.child.stderr!, 'data')
    text += part
  }
  return { ...started, address: /http:\S+/.exec(text)![0] }
}

const complete = (address: string, body: object) =>
  fetch(`${address}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'books-7m', prompt: 'The old', temperature: 0, ...body }),
  })

/** Process ids of the ranks below an mpirun, by rank. */
function ranksOf(job: Started, ranks: number): number[] {
  const found = findRanks(job)
  if (found.filter(Boolean).length !== ranks) throw new Error(`ranks ${found}, expected ${ranks}`)
  return found
}

/** The ranks that are there. */
function findRanks({ child }: Started): number[] {
  const found: number[] = []
  for (const pid of readdirSync('/proc').filter(name => /^\d+$/.test(name))) {
    if (!isBelow(Number(pid), child.pid!)) continue
    const environment = readOrEmpty(`/proc/${pid}/environ`)
    const rank = /(?:^|\0)(?:OMPI_COMM_WORLD_RANK|PMI_RANK)=(\d+)/.exec(environment)?.[1]
    if (rank !== undefined && readOrEmpty(`/proc/${pid}/cmdline`).includes('--expert-parallel'))
      found[Number(rank)] = Number(pid)
  }
  return found
}

/** The same, once all ranks are there. */
async function startedRanks(job: Started, ranks: number): Promise<number[]> {
  while (job.child.exitCode === null) {
    const found = findRanks(job)
    if (found.filter(Boolean).length === ranks) return found
    await sleep(10)
  }
  throw new Error((await job.ended).stderr)
}

function isBelow(pid: number, above: number): boolean {
  const [, parent] = /\) \S (\d+)/.exec(readOrEmpty(`/proc/${pid}/stat`)) ?? []
  if (parent === undefined || parent === '0') return false
  return Number(parent) === above || isBelow(Number(parent), above)
}

function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

async function areGone(pids: readonly number[]): Promise<boolean> {
  for (let i = 0; i < 100; i++) {
    if (pids.every(pid => readOrEmpty(`/proc/${pid}/cmdline`) === '')) return true
    await sleep(100)
  }
  return false
}

await eachMpi(mpi => {
  // The counts of ranks are shared between the two MPIs: all models take a minute for each.
  for (const ranks of mpi.name === 'MPICH' ? [1, 3] : [2, 4]) {
    t.test(`${mpi.name}: the results of one process on ${ranks} ranks`, async t => {
      const names = [...MODELS.keys()].filter(name => alone.get(name)!.ffnExperts >= ranks)
      const without = [...MODELS.keys()].filter(name => !names.includes(name))
      if (without.length > 0) t.comment(`too few FFN experts for ${ranks} ranks: ${without}`)
      const models = names.map(name => MODELS.get(name)!)
      const { code, stdout, stderr } = await start(mpi, ranks, [TEXTS, 'mpi', ...models]).ended
      t.equal(code, 0, stderr)
      const results: Results[] = JSON.parse(stdout)
      t.equal(results.length, names.length)
      for (const [i, name] of names.entries()) t.same(results[i], alone.get(name), name)
    })
  }

  t.test(`${mpi.name}: generate and bench print once`, async t => {
    const model = ['--model', BOOKS, '--threads', '1', '--expert-parallel']
    const args = ['generate', ...model, '--seed', '1', '--max-new-tokens', '8', 'The old man']
    const { code, stdout } = await start(mpi, 3, [MAIN, ...args]).ended
    t.equal(code, 0)
    t.equal(stdout, ' who has been in the town of the\n')
    const bench = ['bench', ...model, '--tests', 'tg4@32x2', '--repetitions', '1', '-o', 'json']
    const measured = await start(mpi, 2, [MAIN, ...bench]).ended
    t.equal(measured.code, 0, measured.stderr)
    t.ok(JSON.parse(measured.stdout))
  })

  t.test(`${mpi.name}: ranks that differ do not load`, async t => {
    const script = `
      import { loadModel } from ${JSON.stringify(join(import.meta.dirname, '../../lib/index.js'))}
      const rank = process.env.OMPI_COMM_WORLD_RANK ?? process.env.PMI_RANK
      const dtype = rank === '1' ? 'int8' : 'auto'
      await loadModel(${JSON.stringify(BOOKS)}, { parallel: 'mpi', dtype })
    `
    // MPICH's mpirun may end with 0 although no rank does.
    const { stderr } = await start(mpi, 2, ['--input-type=module', '-e', script]).ended
    t.match(stderr, /dtype: rank 0 has "auto", rank 1 has "int8"/)
  })

  t.test(`${mpi.name}: a server lets requests end after SIGTERM`, async t => {
    const server = await serve(mpi, 2)
    const [first] = ranksOf(server, 2)
    const answers = await Promise.all(
      [1, 2, 3].map(seed =>
        complete(server.address, { max_tokens: 200, seed, stream: true, ignore_eos: true }),
      ),
    )
    process.kill(first!, 'SIGTERM')
    for (const answer of answers) {
      t.equal(answer.status, 200)
      t.match(await answer.text(), /"finish_reason":"length".*\n\ndata: \[DONE\]\n\n$/s)
    }
    t.equal((await server.ended).code, 0)
  })

  t.test(`${mpi.name}: a rank that hangs ends the requests with an error`, async t => {
    const server = await serve(mpi, 3, ['--parallel-deadline-ms', '1500'])
    const answers = [1, 2, 3, 4].map(seed => complete(server.address, { max_tokens: 900, seed }))
    const ranks = ranksOf(server, 3)
    await sleep(300)
    process.kill(ranks[1]!, 'SIGSTOP')
    await expectFailures(t, answers)
    const { code } = await server.ended
    t.not(code, 0)
    t.ok(await areGone(ranks))
  })

  // MPICH's mpirun ends the others all the same.
  const survives = { skip: mpi.name === 'MPICH' }
  t.test(`${mpi.name}: requests have an error when one rank dies alone`, survives, async t => {
    const server = await serve(mpi, 3, ['--parallel-deadline-ms', '1500'], true)
    const answers = [1, 2, 3, 4].map(seed => complete(server.address, { max_tokens: 900, seed }))
    const ranks = ranksOf(server, 3)
    await sleep(400 * Math.random())
    process.kill(ranks[2]!, 'SIGKILL')
    await expectFailures(t, answers)
    await server.ended
    t.ok(await areGone(ranks))
  })

  t.test(`${mpi.name}: nothing is left of a server after kill -9`, async t => {
    for (const rank of [0, 1, 2]) {
      const server = await serve(mpi, 3, ['--parallel-deadline-ms', '1500'])
      const answers = [1, 2, 3].map(seed => complete(server.address, { max_tokens: 900, seed }))
      const ranks = ranksOf(server, 3)
      await sleep(400 * Math.random())
      process.kill(ranks[rank]!, 'SIGKILL')
      const settled = await Promise.allSettled(answers)
      t.equal(settled.length, 3, 'no request waits for ever')
      const { code } = await server.ended
      t.not(code, 0, `rank ${rank}`)
      t.ok(await areGone(ranks))
    }
  })

  // While the ranks start, load, compute or end.
  t.test(`${mpi.name}: nothing is left after kill -9 at any moment`, async t => {
    const next = random(20)
    for (let i = 0; i < 6; i++) {
      const rank = Math.floor(3 * next())
      const afterMs = Math.round(1500 * next())
      const model = ['--model', BOOKS, '--threads', '1', '--expert-parallel']
      const args = [MAIN, 'generate', ...model, '--parallel-deadline-ms', '1500']
      const job = start(mpi, 3, [...args, '--max-new-tokens', '3000', '--ignore-eos', 'The old'])
      const ranks = await startedRanks(job, 3)
      await sleep(afterMs)
      process.kill(ranks[rank]!, 'SIGKILL')
      const { code } = await job.ended
      t.not(code, 0, `rank ${rank} after ${afterMs} ms`)
      t.ok(await areGone(ranks))
    }
  })
})

/** Each request has an answer, which says that the group has ended. */
async function expectFailures(t: Test, answers: readonly Promise<Response>[]): Promise<void> {
  for (const answer of answers) {
    const response = await answer
    t.equal(response.status, 500)
    t.match(await response.text(), /ERR_PARALLEL/)
  }
}
