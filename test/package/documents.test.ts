/** The documents show what is tested, and the notices hold the licences that they speak of. */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { root } from '../support/golden.js'

const read = (...path: string[]) => readFileSync(join(root, ...path), 'utf8')

t.test('docs/frameworks.md shows the files that test:frameworks runs', async t => {
  const document = read('docs', 'frameworks.md')
  const blocks = [...document.matchAll(/<!-- file: (\S+) -->\n```\w+\n([\s\S]*?)```\n/g)]
  t.equal(blocks.length, document.match(/<!-- file: /g)?.length, 'each mark has a block')
  for (const [, file, shown] of blocks)
    t.equal(shown, read('test', 'frameworks', 'apps', file!), file!)
  // Shows the same in TypeScript's CommonJS, which tsx alone runs.
  const unshown = new Set(['node/text.cts'])
  const apps = join(root, 'test', 'frameworks', 'apps')
  const files = readdirSync(apps, { recursive: true, encoding: 'utf8' })
    .filter(file => statSync(join(apps, file)).isFile())
    .map(file => file.replaceAll('\\', '/'))
    .filter(file => !unshown.has(file))
  t.same(blocks.map(([, file]) => file).sort(), files.sort(), 'all of them')
})

t.test('docs/frameworks.md names the versions that are installed', async t => {
  const document = read('docs', 'frameworks.md')
  const { dependencies } = JSON.parse(read('test', 'frameworks', 'package.json'))
  for (const name of ['next', 'esbuild', 'webpack', 'vite', 'bun', 'deno', 'tsx'])
    t.ok(document.includes(`| ${dependencies[name]} |`), `${name} ${dependencies[name]}`)
})

t.test('the package of the model', async t => {
  const folder = ['models', 'books-7m']
  const { version } = JSON.parse(read('package.json'))
  t.equal(JSON.parse(read(...folder, 'package.json')).version, version, 'the version of moepp')
  t.equal(read(...folder, 'LICENSE'), read('LICENSE'))
})

t.test('THIRD_PARTY_NOTICES.md holds the licences of what is compiled into the addon', async t => {
  const words = (text: string) => text.replaceAll(/[\s_*]+/g, ' ').trim()
  const notices = words(read('THIRD_PARTY_NOTICES.md'))
  for (const name of ['node-addon-api', 'node-api-headers', 'cmake-js']) {
    const folder = join('node_modules', name)
    const file = readdirSync(join(root, folder)).find(entry => /^licen[cs]e/i.test(entry))!
    t.ok(notices.includes(words(read(folder, file))), name)
  }
})
