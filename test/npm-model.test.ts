/** `npm:NAME`: an installed package with a model, found and never run. */
import { existsSync, mkdirSync, realpathSync, rmdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { npmModelDirectory } from '../lib/hub/npm-model.js'
import { resolveSource } from '../lib/hub/source.js'
import { BOOKS } from './cli/run-cli.js'
import { root } from './support/golden.js'

const started = process.cwd()

/** A project with a package `name` of these files; the working directory is a folder in it. */
function project(folder: string, name: string, files: Record<string, string>): string {
  const installed = join(folder, 'node_modules', name)
  mkdirSync(installed, { recursive: true })
  for (const [file, content] of Object.entries(files)) writeFileSync(join(installed, file), content)
  mkdirSync(join(folder, 'src'))
  process.chdir(join(folder, 'src'))
  return realpathSync(installed)
}

const MANIFEST = '{"main":"index.js"}'
/** Would say so if it ran. */
const CODE = `require('node:fs').writeFileSync(__dirname + '/ran', '')`

t.afterEach(() => process.chdir(started))

for (const name of ['some-model', '@some/model.v1_x']) {
  t.test(`finds ${name} from the working directory, and runs nothing of it`, async t => {
    const files = { 'package.json': MANIFEST, 'config.json': '{}', 'index.js': CODE }
    const folder = project(t.testdir(), name, files)
    t.equal(npmModelDirectory(name), folder)
    t.equal(await resolveSource(`npm:${name}`), folder)
    t.notOk(existsSync(join(folder, 'ran')))
  })
}

t.test("finds a package from moepp's own folder", async t => {
  // The working directory has no packages; moepp has its dependencies, which are no models.
  process.chdir('/')
  t.throws(() => npmModelDirectory('cli-progress'), {
    code: 'ERR_NOT_FOUND',
    message: `npm:cli-progress: ${join(root, 'node_modules', 'cli-progress')} holds no config.json, so the package is not a model`,
  })
})

t.test('a package that is not installed', async t => {
  process.chdir(t.testdir())
  t.throws(() => npmModelDirectory('moepp-no-such-model'), {
    code: 'ERR_NOT_FOUND',
    message: /not installed\. To install it: npm install moepp-no-such-model$/,
  })
})

// Windows removes no directory that is in use.
const skip = process.platform === 'win32'
t.test('a working directory that is removed', { skip }, async t => {
  const folder = join(t.testdir(), 'removed')
  mkdirSync(folder)
  process.chdir(folder)
  rmdirSync(folder)
  const error = await resolveSource('npm:some-model').catch((error: unknown) => error)
  process.chdir(started)
  t.match(error, { code: 'ERR_NOT_FOUND', message: /^npm:some-model: ENOENT/ })
})

t.test('a package that hides its package.json', async t => {
  const manifest = '{"exports":{".":"./index.js"}}'
  project(t.testdir(), 'hidden', { 'package.json': manifest, 'config.json': '{}' })
  t.throws(() => npmModelDirectory('hidden'), {
    code: 'ERR_NOT_FOUND',
    message: /npm:hidden: .*package\.json/,
  })
})

t.test('a name that is none leads nowhere', async t => {
  const folder = t.testdir({ outside: { 'package.json': '{}', 'config.json': '{}' } })
  project(folder, 'some-model', { 'package.json': '{}' })
  symlinkSync(BOOKS, join(folder, 'node_modules', 'UPPER'))
  const wrong = [
    ...['', '.', '..', '../outside', '../../outside', 'some-model/../../outside', '/etc'],
    ...['./outside', 'UPPER', '.hidden', '_x', 'a/b', '@a', '@a/', '@/b', '@a/../b', 'a b', 'a\\b'],
    ...['a\0', 'a\n', 'node_modules', 'x@1.0.0', 'a'.repeat(215)],
  ]
  for (const name of wrong) {
    t.throws(
      () => npmModelDirectory(name),
      { code: 'ERR_NOT_FOUND', message: /expected the name of an npm package/ },
      JSON.stringify(name),
    )
  }
})
