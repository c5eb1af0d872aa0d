/** CommonJS gets the very module that ES modules get, and types for all of it. */
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import t from 'tap'
import { root } from '../support/golden.js'

const esm = await import(join(root, 'dist', 'index.js'))
const commonJs = createRequire(import.meta.url)(join(root, 'dist', 'index.cjs'))
const declarations = readFileSync(join(root, 'dist', 'index.d.cts'), 'utf8')

t.ok(Object.keys(esm).includes('loadModel'))
t.same(Object.keys(commonJs), Object.keys(esm))
for (const name of Object.keys(esm)) {
  t.equal(commonJs[name], esm[name], name)
  t.match(declarations, `export declare const ${name}: Module['${name}']`, `${name} is declared`)
}

t.test('the types of the namespace', async t => {
  const index = readFileSync(join(root, 'dist', 'routing', 'index.d.ts'), 'utf8')
  const [, listed = ''] = /export type \{([^}]*)\}/.exec(index) ?? []
  const names = listed.split(',').flatMap(each => each.trim().split(' ').at(-1) || [])
  t.ok(names.includes('LayerStatistics'))
  for (const name of names) t.match(declarations, `type ${name} = `, name)
})
