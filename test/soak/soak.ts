/** A server under hard use: clients that leave, lie, dawdle and die. */
import { type ChildProcess, fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseScrape, type Scrape } from '../server/scrape.js'
import { chatCheckpoint } from '../support/chat-checkpoint.js'
import { root } from '../support/golden.js'

const PROCESSES = 4
const CLIENTS = 16
/** Milliseconds between two processes of clients that are killed, on average. */
const KILL_EVERY_MS = 5_000
const SAMPLES = 12
/** The server must have nothing left to do by then. */
const SETTLE_MS = 30_000
/** The second half's memory may be above the first's by so much: the heap grows by steps. */
const MOST_GROWTH = 1.2

export interface SoakReport {
  /** Requests by their end: a status, or the word for what the client did. */
  readonly counts: Readonly<Record<string, number>>
  /** Samples of the server's resident memory in bytes, in the order of time. */
  readonly memory: readonly number[]
  /** All that came and must not; empty if all is well. */
  readonly faults: readonly string[]
}

export interface SoakOptions {
  readonly minutes: number
  readonly seed: number
  readonly log?: (line: string) => void
}

/** A message of a process of clients: how a request ended, and whether it may end so. */
export interface Ended {
  readonly end: string
  readonly fault?: string
}

export async function soak({ minutes, seed, log = () => {} }: SoakOptions): Promise<SoakReport> {
  const folder = mkdtempSync(join(tmpdir(), 'moepp-soak-'))
  const server = startServer(chatCheckpoint(folder))
  const counts: Record<string, number> = {}
  const faults: string[] = []
  const memory: number[] = []
  const note = ({ end, fault }: Ended) => {
    counts[end] = (counts[end] ?? 0) + 1
    if (fault !== undefined && faults.length < 100) faults.push(fault)
  }
  try {
    const address = await addressOf(server)
    server.once('exit', (code, signal) => {
      if (code !== 0) faults.push(`the server ended: ${signal ?? `status ${code}`}`)
    })
    // At level error.
    server.stdout!.on('data', line => {
      if (faults.length < 100) faults.push(`the server logged ${line}`)
    })
    const until = Date.now() + minutes * 60_000
    const crowd = new Crowd(address, seed, note)
    const sampleMs = (minutes * 60_000) / SAMPLES
    const sampling = (async () => {
      for (let i = 0; i < SAMPLES; i++) {
        await sleep(sampleMs)
        memory.push((await metrics(address)).get('process_resident_memory_bytes') ?? 0)
        log(`${((100 * (i + 1)) / SAMPLES).toFixed()} %: ${JSON.stringify(counts)}`)
      }
    })()
    while (Date.now() < until) {
      await sleep(Math.min(KILL_EVERY_MS, Math.max(0, until - Date.now())))
      await crowd.killOne()
    }
    await sampling
    await crowd.end()
    faults.push(...(await leftOver(address)), ...growth(memory))
    server.kill('SIGTERM')
    const [code] = await once(server, 'exit')
    if (code !== 0) faults.push(`after SIGTERM the server ended with status ${code}`)
  } finally {
    server.kill('SIGKILL')
    rmSync(folder, { recursive: true })
  }
  return { counts, memory, faults }
}

/** The processes of clients. One that is killed is replaced. */
class Crowd {
  readonly #children: ChildProcess[]
  readonly #start: (seed: number) => ChildProcess
  #seed: number

  constructor(address: string, seed: number, note: (ended: Ended) => void) {
    this.#seed = seed
    const program = fileURLToPath(new URL('./clients.js', import.meta.url))
    this.#start = seed => {
      const child = fork(program, [address, String(seed), String(CLIENTS)])
      child.on('message', message => note(message as Ended))
      return child
    }
    this.#children = Array.from({ length: PROCESSES }, () => this.#start(++this.#seed))
  }

  async killOne(): Promise<void> {
    const child = this.#children.shift()!
    child.kill('SIGKILL')
    this.#children.push(this.#start(++this.#seed))
  }

  async end(): Promise<void> {
    await Promise.all(
      this.#children.map(async child => {
        const exit = once(child, 'exit')
        child.send('end')
        await exit
      }),
    )
  }
}

function startServer(checkpoint: string): ChildProcess {
  const limits = ['--max-running', '16', '--max-queued', '24', '--max-unread-bytes', '20000']
  return spawn(
    process.execPath,
    [
      join(root, 'dist', 'cli', 'main.js'),
      ...['serve', '--model', checkpoint, '--device', 'cpu', '--port', '0', '--model-name', 'soak'],
      ...['--log-level', 'error', '--kv-cache-tokens', '16384', ...limits],
    ],
    { cwd: root, env: { ...process.env, NODE_OPTIONS: '' }, stdio: ['ignore', 'pipe', 'pipe'] },
  )
}

/** The address that the server says on standard error. */
async function addressOf({ stderr }: ChildProcess): Promise<string> {
  let text = ''
  for await (const part of stderr!) {
    text += part
    const found = /http:\/\/[\d.:]+/.exec(text)
    if (found) {
      stderr!.on('data', data => process.stderr.write(data))
      return found[0]
    }
  }
  throw new Error(`the server did not start: ${text}`)
}

async function metrics(address: string): Promise<Scrape> {
  return parseScrape(await (await fetch(`${address}/metrics`)).text())
}

/** Names all that runs, waits or holds a page although no client is left. */
async function leftOver(address: string): Promise<string[]> {
  const names = [
    'moepp_num_requests_running',
    'moepp_num_requests_waiting',
    'moepp_kv_cache_usage_perc',
  ]
  const end = Date.now() + SETTLE_MS
  for (;;) {
    const values = await metrics(address)
    const left = names.filter(name => values.get(name) !== 0)
    if (left.length === 0) return []
    if (Date.now() > end) return left.map(name => `${name} is ${values.get(name)} at the end`)
    await sleep(100)
  }
}

function growth(memory: readonly number[]): string[] {
  const mean = (values: readonly number[]) => values.reduce((sum, x) => sum + x, 0) / values.length
  // The first quarter fills caches.
  const settled = memory.slice(memory.length / 4)
  const half = settled.length >> 1
  const [before, after] = [mean(settled.slice(0, half)), mean(settled.slice(half))]
  if (after <= before * MOST_GROWTH) return []
  return [`resident memory grew from ${before.toFixed()} to ${after.toFixed()} bytes`]
}
