/** Standard output that is full, or closed. */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, existsSync, openSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PassThrough, Writable } from 'node:stream'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { Output } from '../../lib/cli/output.js'
import { goldenCase, root } from '../support/golden.js'
import { BOOKS, finish, startCli } from './run-cli.js'

const MAIN = join(root, 'dist', 'cli', 'main.js')
const FEW = ['--model', BOOKS, '--max-new-tokens', '3']

/** Every command that prints something; convert writes to `target`. */
function commands(target: string): string[][] {
  const prompts = `${target}.jsonl`
  writeFileSync(prompts, '"The old man"\n')
  return [
    ['generate', ...FEW],
    ['generate', ...FEW, '--json'],
    ['generate', ...FEW, '--prompts', prompts],
    ['inspect', BOOKS],
    ['inspect', BOOKS, '--json'],
    ['convert', goldenCase('gqa'), target],
    ['bench', '--model', BOOKS, '--tests', 'pp4', '--repetitions', '1'],
    ['doctor'],
    ['doctor', '--json'],
    ['--help'],
    ['generate', '--help'],
    ['chat', '--help'],
    ['help'],
    ['--version'],
  ]
}

const noFull = existsSync('/dev/full') ? false : 'there is no /dev/full'

t.test('a full device is an error of every command', { skip: noFull }, async t => {
  for (const args of commands(join(t.testdir(), 'target'))) {
    const full = openSync('/dev/full', 'w')
    const child = spawn(process.execPath, [MAIN, ...args], {
      env: { ...process.env, NODE_OPTIONS: '' },
      stdio: ['ignore', full, 'pipe'],
    })
    const exit = once(child, 'exit')
    const stderr = await text(child.stderr!)
    closeSync(full)
    t.same(await exit, [1, null], args.join(' '))
    t.match(stderr, /^moepp: ERR_CANNOT_WRITE: standard output: ENOSPC: [^\n]*\n$/m)
  }
})

const noLimit = process.platform === 'win32' ? 'no ulimit' : false

t.test('a file that takes only a part is an error', { skip: noLimit }, async t => {
  const file = join(t.testdir(), 'out.json')
  const command = `NODE_OPTIONS=; ulimit -f 8; exec "$0" "$1" inspect "$2" --json > "$3"`
  const { status, stderr } = spawnSync('sh', ['-c', command, process.execPath, MAIN, BOOKS, file], {
    encoding: 'utf8',
    env: { ...process.env, NODE_OPTIONS: '' },
  })
  t.ok(statSync(file).size > 0, 'a part')
  t.throws(() => JSON.parse(readFileSync(file, 'utf8')))
  t.equal(status, 1)
  t.match(stderr, /^moepp: ERR_CANNOT_WRITE: standard output: EFBIG/)
})

t.test('a reader that closes early is no failure of any command', async t => {
  for (const args of commands(join(t.testdir(), 'target'))) {
    const child = startCli(args)
    child.stdin.end()
    child.stdout.destroy()
    const exit = once(child, 'exit')
    t.notMatch(await text(child.stderr), /ERR_|Error/)
    t.same(await exit, [0, null], args.join(' '))
  }
})

t.test('messages that nobody can read do not matter', async t => {
  const child = startCli(['generate', ...FEW])
  child.stdin.end()
  child.stderr.destroy()
  const exit = once(child, 'exit')
  t.match(await text(child.stdout), /\n$/)
  t.same(await exit, [0, null])
  const wrong = startCli(['generate', '--modl'])
  wrong.stderr.destroy()
  t.same(await once(wrong, 'exit'), [2, null])
})

t.test('text and figures share a pipe in their order', { skip: noLimit }, async t => {
  const command = 'exec "$0" "$@" 2>&1'
  const child = spawn('sh', ['-c', command, process.execPath, MAIN, 'generate', ...FEW], {
    env: { ...process.env, NODE_OPTIONS: '' },
  })
  child.stdin.end()
  const { code, stdout } = await finish(child)
  t.equal(code, 0)
  t.match(stdout, /^moepp: books-7m [^\n]*\n[^\n]*\nmoepp: 4 prompt tokens [^\n]*\n$/)
})

t.test('the first failure counts, and ends the work', async t => {
  let writes = 0
  const stream = new Writable({
    write(_chunk, _encoding, callback) {
      writes++
      callback(Object.assign(new Error(`failure ${writes}`), { code: 'EIO' }))
    },
  })
  const output = new Output(stream)
  await output.write('a')
  await t.rejects(output.finish(), {
    code: 'ERR_CANNOT_WRITE',
    message: 'standard output: failure 1',
  })
  t.ok(output.closed.aborted)
  await output.write('b')
  t.equal(writes, 1)
})

t.test('finish waits for a slow stream', async t => {
  const stream = new PassThrough({ highWaterMark: 1 })
  const output = new Output(stream)
  const written = output.write('abc').then(() => output.finish())
  t.equal(await text(stream.once('data', () => setImmediate(() => stream.end()))), 'abc')
  await written
})
