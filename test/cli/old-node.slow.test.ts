import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { transform } from 'esbuild'
import t from 'tap'
import { root } from '../support/golden.js'
import { runCli } from './run-cli.js'

/** Runs `moepp` as if Node had another version. */
function runAs(version: string) {
  const versions = `{ ...process.versions, node: '${version}' }`
  const code = `Object.defineProperty(process, 'versions', { value: ${versions} })`
  const NODE_OPTIONS = `--import=data:text/javascript,${encodeURIComponent(code)}`
  return runCli(['--version'], { env: { NODE_OPTIONS } })
}

t.test('an old Node is named before anything is imported', async t => {
  for (const version of ['18.20.8', '20.18.3', '21.7.3', '22.11.0']) {
    const { code, stdout, stderr } = await runAs(version)
    t.equal(code, 1)
    t.equal(stdout, '')
    t.equal(
      stderr,
      `moepp: Node ${version} is too old. moepp needs Node 20.19 or 22.12, or a newer one.\n`,
    )
  }
  for (const version of ['20.19.0', '22.12.0', '23.0.0', '24.1.0'])
    t.equal((await runAs(version)).code, 0, version)
})

t.test('an old Node can read the program', async t => {
  const source = readFileSync(join(root, 'dist', 'cli', 'main.js'), 'utf8')
  t.notMatch(source, /^import /m, 'no import goes before the check')
  const options = { format: 'esm', supported: { 'dynamic-import': true } } as const
  const as = async (target: string) => (await transform(source, { ...options, target })).code
  t.equal(await as('es2018'), await as('esnext'), 'no newer syntax')
})
