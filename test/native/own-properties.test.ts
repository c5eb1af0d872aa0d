import { spawnSync } from 'node:child_process'
import t from 'tap'
import { root } from '../support/golden.js'

t.test('properties of Object.prototype are none of a model', t => {
  const program = `
    for (const name of ['x', 'capture', 'copies']) Object.prototype[name] = name
    const { loadModel } = await import('./dist/index.js')
    const model = await loadModel('models/books-7m')
    const { tokenIds } = await model.generate('The old man', { maxNewTokens: 3 })
    await model.close()
    console.log(tokenIds.length)`
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    ['--input-type=module', '-e', program],
    { cwd: root, env: { ...process.env, NODE_OPTIONS: '' }, encoding: 'utf8' },
  )
  t.equal(stderr, '')
  t.equal(stdout, '3\n')
  t.equal(status, 0)
  t.end()
})
