import { spawn, spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { pathToFileURL } from 'node:url'
import t from 'tap'
import { root } from '../support/golden.js'

/** Work of `ms` milliseconds, reported at its beginning and its end. */
function program(ms: number): string {
  const module = pathToFileURL(join(root, 'dist', 'cli', 'progress.js')).href
  return [
    `import { Progress } from '${module}'`,
    'const { stderr } = process',
    'const progress = new Progress({ stderr, stderrIsTerminal: stderr.isTTY === true })',
    `progress.update('Converting', 0, 5e6)`,
    `await new Promise(resolve => setTimeout(resolve, ${ms}))`,
    `progress.update('Converting', 1e6, 5e6, 'a.bin')`,
    'progress.stop()',
  ].join('; ')
}

/** Its output on a terminal, which script(1) provides. */
async function onTerminal(ms: number): Promise<string> {
  const command = `'${process.execPath}' --input-type=module -e "${program(ms)}"`
  const child = spawn('script', ['-qec', command, '/dev/null'], {
    env: { ...process.env, NODE_OPTIONS: '' },
  })
  child.stdin.end()
  return text(child.stdout)
}

const noTerminal = spawnSync('script', ['--version']).error ? 'script(1) is not installed' : false

t.test('a bar for what takes longer than a second', { skip: noTerminal }, async t => {
  t.match(await onTerminal(1100), /Converting .* 20 % \| 1\.00 MB of 5\.00 MB \| .* a\.bin/)
})

t.test('nothing for what is quick', { skip: noTerminal }, async t => {
  t.notMatch(await onTerminal(10), /Converting/)
})

t.test('nothing without a terminal', async t => {
  const { stdout, stderr } = spawnSync(
    process.execPath,
    ['--input-type=module', '-e', program(1100)],
    {
      env: { ...process.env, NODE_OPTIONS: '' },
      encoding: 'utf8',
    },
  )
  t.equal(stdout + stderr, '')
})
