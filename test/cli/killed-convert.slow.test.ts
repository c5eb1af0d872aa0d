/**
 * Conversions that end in the middle: killed, interrupted, or between the two renames of a
 * replacement.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, statSync } from 'node:fs'
import { mkdir, mkdtemp, open, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { machine } from '../../lib/base/writer.js'
import { convertCheckpoint } from '../../lib/convert/convert.js'
import { storedTensors } from '../../lib/families/record.js'
import { describeModel } from '../../lib/families/registry.js'
import { goldenCase } from '../support/golden.js'
import { finish, startCli } from './run-cli.js'

const SMALL = goldenCase('gqa')

/**
 * A checkpoint of about 600 MB of zeros, which take no room on the disk: only what is written of
 * them does.
 */
async function largeCheckpoint(directory: string): Promise<void> {
  const json = {
    ...{
      model_type: 'MoE++',
      vocab_size: 70_000,
      hidden_size: 1024,
      intermediate_size: 64,
      num_hidden_layers: 1,
    },
    ...{ num_attention_heads: 8, num_experts: [6], moe_2layer_gate: false },
  }
  await writeFile(join(directory, 'config.json'), JSON.stringify(json))
  const header: Record<string, object> = {}
  let end = 0
  for (const { name, shape } of storedTensors(describeModel(json, 'config.json'))) {
    const begin = end
    end += 4 * shape.reduce((a, b) => a * b, 1)
    header[name] = { dtype: 'F32', shape, data_offsets: [begin, end] }
  }
  const bytes = Buffer.from(JSON.stringify(header))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(bytes.length))
  const file = await open(join(directory, 'model.safetensors'), 'wx')
  await file.write(Buffer.concat([length, bytes]))
  await file.truncate(8 + bytes.length + end)
  await file.close()
}

/** Starts a conversion and sends `signal` when it has begun to write the weights. */
async function convertAndSignal(source: string, folder: string, signal: NodeJS.Signals) {
  const child = startCli(['convert', source, join(folder, 'target')])
  const finished = finish(child)
  for (;;) {
    const staged = readdirSync(folder).find(name => name.includes(`-${child.pid}-`))
    const weights = staged && join(folder, staged, 'model.safetensors')
    if (weights && existsSync(weights) && statSync(weights).size > 1e6) break
    if (child.exitCode !== null) throw new Error(`ended too early: ${(await finished).stderr}`)
    await sleep(1)
  }
  child.kill(signal)
  return finished
}

t.test('a killed and an interrupted conversion', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'moepp-convert-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const [source, out] = [join(folder, 'source'), join(folder, 'out')]
  await mkdir(source)
  await mkdir(out)
  await largeCheckpoint(source)

  const killed = await convertAndSignal(source, out, 'SIGKILL')
  t.equal(killed.code, undefined)
  const left = readdirSync(out)
  t.equal(left.length, 1, 'the hidden folder of the killed process')
  t.match(left[0], /^\.target\.moepp-new-/)

  const interrupted = await convertAndSignal(source, out, 'SIGINT')
  t.equal(interrupted.code, 130)
  t.equal(interrupted.stderr, 'moepp: interrupted\n')
  t.equal(interrupted.stdout, '')
  t.same(readdirSync(out), [], 'nothing of its own, and nothing of the killed one')

  await convertCheckpoint(SMALL, join(out, 'target'))
  t.same(readdirSync(out), ['target'])
})

/** The id of a process that has ended. */
function deadPid(): number {
  return spawnSync(process.execPath, ['--version']).pid
}

t.test('what is left between the renames of a replacement is put back', async t => {
  const folder = t.testdir()
  const target = join(folder, 'target')
  const host = machine()
  await convertCheckpoint(SMALL, target)
  await rename(target, join(folder, `.target.moepp-old-${host}-${deadPid()}-0123abcd`))
  await t.rejects(convertCheckpoint(SMALL, target), {
    code: 'ERR_CANNOT_WRITE',
    message: /exists already/,
  })
  t.same(readdirSync(folder), ['target'])
})

t.test('folders of living processes and other machines are left alone', async t => {
  const host = machine()
  const living = `.target.moepp-new-${host}-${process.pid}-0123abcd`
  const elsewhere = `.target.moepp-new-another.host-${deadPid()}-0123abcd`
  const stale = `.target.moepp-new-${host}-${deadPid()}-0123abcd`
  const folder = t.testdir({
    [living]: {},
    [elsewhere]: {},
    [stale]: { 'config.json': '{}' },
    '.target.moepp-mine': 'x',
  })
  await convertCheckpoint(SMALL, join(folder, 'target'))
  t.same(readdirSync(folder).sort(), ['.target.moepp-mine', elsewhere, living, 'target'].sort())
})
