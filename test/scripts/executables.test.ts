/** Every file that is marked as a program begins with `#!`: without it only a shell can run it. */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { root } from '../support/golden.js'

const { status, stdout } = spawnSync('git', ['ls-files', '-s'], { cwd: root, encoding: 'utf8' })
t.test('executables', { skip: status !== 0 && 'no git checkout' }, async t => {
  const files = stdout.split('\n').filter(line => line.startsWith('100755'))
  t.ok(files.length > 0)
  for (const line of files) {
    const file = line.slice(line.indexOf('\t') + 1)
    t.match(readFileSync(join(root, file), 'utf8'), /^#!\/usr\/bin\/env (bash|node)\n/, file)
  }
})
