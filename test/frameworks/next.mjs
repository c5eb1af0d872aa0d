// Next.js: built, started, asked once.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { cpSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { dirname, join } from 'node:path'
import { checkBundledError, environment, succeed, withoutMoepp } from './process.mjs'

export const next = [
  ['Next.js, external', nextExternal],
  ['Next.js, external, standalone output', nextStandalone],
  ['Next.js, bundled whole', nextWhole],
]

const program = ({ project }) => join(project, 'node_modules', 'next', 'dist', 'bin', 'next')

/** Next takes the folder of the lock file for its root: the app is built in the project itself. */
function build({ project, apps }, sources, config) {
  for (const path of ['.next', 'app']) rmSync(join(project, path), { recursive: true, force: true })
  for (const source of sources) cpSync(join(apps, source), project, { recursive: true })
  if (config !== undefined) writeFileSync(join(project, 'next.config.mjs'), config)
  succeed([process.execPath, program({ project }), 'build'], project)
  return project
}

async function nextExternal(context) {
  const folder = build(context, ['next'])
  await expectText(context, await ask([program(context), 'start'], folder))
}

async function nextStandalone(context) {
  const folder = build(context, ['next', 'next-standalone'])
  const built = join(folder, '.next', 'standalone')
  const server = readdirSync(built, { recursive: true }).find(
    file => file.endsWith('server.js') && !file.includes('node_modules') && !file.includes('.next'),
  )
  const moved = join(context.scratch, 'standalone')
  cpSync(built, moved, { recursive: true, verbatimSymlinks: true })
  await withoutMoepp(context, async () => {
    const file = join(moved, server)
    await expectText(context, await ask([file], dirname(file)))
  })
}

async function nextWhole(context) {
  const folder = build(context, ['next'], 'export default {}')
  // Turbopack keeps the paths of the sources: it runs while moepp is still there.
  await expectText(context, await ask([program(context), 'start'], folder))
  await withoutMoepp(context, async addon => {
    const { status, log } = await ask([program(context), 'start'], folder)
    assert.equal(status, 500)
    checkBundledError(log.replace('[MoeppError]', 'MoeppError'))
    const named = await ask([program(context), 'start'], folder, { MOEPP_BINDING: addon })
    await expectText(context, named)
  })
}

function expectText({ expected }, { status, text, log }) {
  assert.deepEqual({ status, text }, { status: 200, text: expected }, log)
}

/** Starts a server, asks for /text, stops it. */
async function ask(command, cwd, env = {}) {
  const port = String(await freePort())
  const variables = { ...environment, ...env, PORT: port, HOSTNAME: '127.0.0.1' }
  const child = spawn(process.execPath, command, { cwd, env: variables })
  let log = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8')
    stream.on('data', part => {
      log += part
    })
  }
  const exit = new Promise(resolve => child.once('exit', resolve))
  try {
    const response = await firstAnswer(`http://127.0.0.1:${port}/text`, child, () => log)
    return { status: response.status, text: await response.text(), log }
  } finally {
    child.kill('SIGTERM')
    await exit
  }
}

async function firstAnswer(url, child, log) {
  for (let attempt = 0; attempt < 600 && child.exitCode === null; attempt++) {
    try {
      return await fetch(url, { signal: AbortSignal.timeout(60_000) })
    } catch (error) {
      if (error.cause?.code !== 'ECONNREFUSED') throw error
      await new Promise(resolve => setTimeout(resolve, 100))
    }
  }
  throw new Error(`the server did not answer:\n${log()}`)
}

function freePort() {
  return new Promise(resolve => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address()
      server.close(() => resolve(port))
    })
  })
}
