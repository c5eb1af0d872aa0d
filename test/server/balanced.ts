/** Two replicas of `moepp serve` behind nginx with the configuration of the examples. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { BOOKS, startCli } from '../cli/run-cli.js'
import { root } from '../support/golden.js'

/** Debian has it in a folder that is no user's. */
const NGINX = ['nginx', '/usr/sbin/nginx'].find(name => spawnSync(name, ['-v']).status === 0)

/** False if nginx is there, else the reason to skip. */
export const lacksNginx =
  NGINX === undefined && 'nginx is not installed: apt-get install nginx-light'

export interface Replica {
  readonly process: ChildProcess
  /** As nginx names it: 127.0.0.1:40001. */
  readonly address: string
}

export interface Balanced {
  readonly url: string
  readonly replicas: readonly [Replica, Replica]
  close(): Promise<void>
}

export async function startBalanced(): Promise<Balanced> {
  const replicas = await Promise.all([startReplica(), startReplica()])
  const folder = mkdtempSync(join(tmpdir(), 'moepp-nginx-'))
  const port = await freePort()
  writeFileSync(join(folder, 'nginx.conf'), configuration(port, replicas))
  const directives = 'daemon off; master_process off; pid nginx.pid;'
  const args = ['-p', `${folder}/`, '-e', 'stderr', '-c', 'nginx.conf', '-g', directives]
  const nginx = spawn(NGINX!, args, { stdio: ['ignore', 'ignore', 'inherit'] })
  const url = `http://127.0.0.1:${port}`
  await answers(`${url}/health`)
  return {
    url,
    replicas,
    close: async () => {
      await Promise.all([nginx, ...replicas.map(({ process }) => process)].map(end))
      rmSync(folder, { recursive: true })
    },
  }
}

async function startReplica(): Promise<Replica> {
  const flags = ['--model', BOOKS, '--port', '0', '--threads', '1', '--log-level', 'silent']
  const process = startCli(['serve', ...flags])
  process.stdout.resume()
  for await (const line of createInterface({ input: process.stderr })) {
    const address = /http:\/\/(127\.0\.0\.1:\d+)$/.exec(line)?.[1]
    if (address) return { process, address }
  }
  throw new Error('the server has not started')
}

/** The example's, with addresses of this test, and the replica's address in each answer. */
function configuration(port: number, replicas: readonly Replica[]): string {
  const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
  const temporary = paths.map(name => `${name}_temp_path ${name};`).join(' ')
  const changes: [string, string][] = [
    ['listen 80;', `listen 127.0.0.1:${port};`],
    ['moepp-1:8080', replicas[0]!.address],
    ['moepp-2:8080', replicas[1]!.address],
    ['http {', `http { access_log off; ${temporary}`],
    [
      'proxy_pass http://moepp;',
      'proxy_pass http://moepp; add_header x-tried $upstream_addr always;',
    ],
  ]
  return changes.reduce(
    (text, [find, replace]) => {
      if (text.split(find).length !== 2) throw new Error(`nginx.conf: expected one ${find}`)
      return text.replace(find, () => replace)
    },
    readFileSync(join(root, 'examples', 'nginx.conf'), 'utf8'),
  )
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  return port
}

async function answers(url: string): Promise<void> {
  for (let i = 0; i < 200; i++) {
    const answer = await fetch(url).catch(() => undefined)
    if (answer?.ok) return
    await sleep(50)
  }
  throw new Error(`${url} does not answer`)
}

async function end(process: ChildProcess): Promise<void> {
  if (process.exitCode !== null || process.signalCode !== null) return
  const exit = once(process, 'exit')
  process.kill('SIGKILL')
  await exit
}
