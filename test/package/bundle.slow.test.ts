/** moepp within a bundle: it is imported, says what to do, and runs with MOEPP_BINDING. */
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { BOOKS } from '../cli/run-cli.js'
import { root } from '../support/golden.js'
import { cleanEnvironment, runProcess } from './processes.js'

const addon = join(root, 'build', 'Release', 'moepp.node')

const PROGRAM = `
import { loadModel, MoeppError } from ${JSON.stringify(join(root, 'dist', 'index.js'))}
process.stdout.write('imported\\n')
loadModel(process.argv[2]).then(
  model => process.stdout.write(model.device.name),
  error => process.stdout.write((error instanceof MoeppError) + ' ' + error.code + ' ' + error.message),
)
`

for (const format of ['esm', 'cjs']) {
  t.test(`bundled whole by esbuild as ${format}`, async t => {
    // Outside the checkout, whose package.json would be found.
    const folder = t.testdir({ 'package.json': '{"name":"app"}', 'app.mjs': PROGRAM })
    const bundle = join(folder, format === 'esm' ? 'bundle.mjs' : 'bundle.cjs')
    const options = ['--bundle', '--platform=node', `--format=${format}`, '--log-level=error']
    execFileSync(process.execPath, [
      ...[join(root, 'node_modules/esbuild/bin/esbuild'), join(folder, 'app.mjs')],
      ...[...options, `--outfile=${bundle}`],
    ])
    const run = (env: NodeJS.ProcessEnv, source: string) =>
      runProcess(process.execPath, [bundle, source], {
        cwd: folder,
        env: { ...cleanEnvironment(), ...env },
      })
    const alone = await run({}, BOOKS)
    t.match(alone, { code: 0, signal: null, stderr: '' })
    t.match(
      alone.stdout,
      /^imported\ntrue ERR_NO_BINDING .*: moepp was bundled; mark it external: /,
    )
    t.match(alone.stdout, 'docs/frameworks.md')
    const named = await run({ MOEPP_BINDING: addon }, BOOKS)
    t.same(named, { code: 0, signal: null, stdout: 'imported\ncpu', stderr: '' })
    const noModel = await run({ MOEPP_BINDING: addon }, 'npm:no-such-model')
    t.match(noModel.stdout, /^imported\ntrue ERR_NOT_FOUND .*npm install no-such-model$/)
  })
}

const FAILING = `
import { loadModel } from ${JSON.stringify(join(root, 'dist', 'index.js'))}
await loadModel(${JSON.stringify(BOOKS)}).catch(error => process.stdout.write(error.code + ' ' + error.message))
`

t.test('MOEPP_BINDING that is no addon of moepp', async t => {
  const folder = t.testdir({ 'failing.mjs': FAILING })
  const failure = async (named: string) => {
    const env = { ...cleanEnvironment(), MOEPP_BINDING: named }
    const ended = await runProcess(process.execPath, ['failing.mjs'], { cwd: folder, env })
    t.match(ended, { code: 0, signal: null, stderr: '' }, named)
    return ended.stdout
  }
  for (const named of ['/dev/null', addon.replace(/node$/, 'js'), folder])
    t.match(await failure(named), `MOEPP_BINDING: expected the path of a .node file, got ${named}`)
  const absent = await failure('/does/not/exist.node')
  t.match(absent, /^ERR_NO_BINDING .*MOEPP_BINDING names it/)
  writeFileSync(join(folder, 'text.node'), 'module.exports = {}')
  t.match(await failure('text.node'), /^ERR_NO_BINDING .*MOEPP_BINDING names it/)
})
