// Shared by the cases: processes, folders, and the expected text.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readdirSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** Thrown where a case cannot be had on this machine; the message is the reason. */
export class Skip extends Error {}

const NOT_KEPT = /^(npm_|TAP_|NODE_OPTIONS|NODE_ENV|MOEPP_|PREBUILDS_ONLY)/i
const kept = Object.fromEntries(Object.entries(process.env).filter(([key]) => !NOT_KEPT.test(key)))
export const environment = { ...kept, NEXT_TELEMETRY_DISABLED: '1', CI: '1' }

/** Runs to the end, at most two minutes. */
export function run([command, ...args], cwd, env = {}) {
  return spawnSync(command, args, {
    cwd,
    env: { ...environment, ...env },
    encoding: 'utf8',
    timeout: 120_000,
    maxBuffer: 1e8,
  })
}

export function succeed(command, cwd, env) {
  const ended = run(command, cwd, env)
  if (ended.status === 0) return ended
  const words = `${ended.error ?? ''}${ended.stdout}${ended.stderr}`.slice(-3000)
  throw new Error(`${command.join(' ')} ended with ${ended.status ?? ended.signal}:\n${words}`)
}

/** A folder of the project with the files of these apps. */
export function appFolder({ project, apps }, name, sources) {
  const folder = join(project, name)
  for (const source of sources) cpSync(join(apps, source), folder, { recursive: true })
  return folder
}

/** A folder outside the project that has the model installed, and no moepp. */
export function otherFolder({ project, scratch }, name) {
  const folder = join(scratch, name)
  const model = join('node_modules', 'moepp-books-7m')
  mkdirSync(join(folder, 'node_modules'), { recursive: true })
  cpSync(join(project, model), join(folder, model), { recursive: true })
  writeFileSync(join(folder, 'package.json'), '{"name":"app","type":"module"}')
  return folder
}

/** The program prints the expected text and nothing else. */
export function printsText({ expected }, command, cwd, env) {
  assert.equal(succeed(command, cwd, env).stdout, expected)
}

/** The path of the addon in the installed package. */
export function addonFile({ project }) {
  const folder = join(project, 'node_modules', 'moepp', 'prebuilds')
  const platform = join(folder, `${process.platform}-${process.arch}`)
  return join(
    platform,
    readdirSync(platform).find(file => file.endsWith('.node')),
  )
}

/**
 * A bundle that holds moepp. Without an installed moepp it ends with ERR_NO_BINDING and says what
 * to do; with MOEPP_BINDING it runs.
 */
export async function checkWhole(context, command, cwd) {
  await withoutMoepp(context, addon => {
    const ended = run(command, cwd)
    assert.notEqual(ended.status, 0)
    checkBundledError(ended.stderr)
    printsText(context, command, cwd, { MOEPP_BINDING: addon })
  })
}

export function checkBundledError(words) {
  assert.match(words, /MoeppError: .*moepp was bundled; mark it external: /)
  assert.match(words, /ERR_NO_BINDING/)
}

/** Does the work while the project has no moepp; the addon's file is elsewhere then. */
export async function withoutMoepp(context, work) {
  const addon = join(context.scratch, 'moepp.node')
  if (!existsSync(addon)) cpSync(addonFile(context), addon)
  const installed = join(context.project, 'node_modules', 'moepp')
  const away = join(context.scratch, 'moepp-away')
  renameSync(installed, away)
  try {
    await work(addon)
  } finally {
    renameSync(away, installed)
  }
}
