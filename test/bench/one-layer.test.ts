/**
 * bench/one-layer.mjs: a layer of a synthetic checkpoint as a program of its own, which
 * bench/compare measures.
 */
import { execFileSync } from 'node:child_process'
import t from 'tap'
import { root } from '../support/golden.js'

const SCRIPT = `
  import { hiddenStates, MoeLayer } from './bench/one-layer.mjs'
  import { synthetic } from './bench/synthetic.mjs'
  import { openCheckpoint } from './dist/checkpoint/checkpoint.js'
  import { readModel } from './dist/families/registry.js'
  const [kind, folder] = process.argv.slice(1)
  const directory = synthetic('tiny', { layers: 1, vanilla: kind === 'vanilla', folder })
  const { config } = await readModel(directory)
  const layer = await MoeLayer.load(config, await openCheckpoint(directory), { matrix: 'f32', threads: 1 })
  const x = hiddenStates(directory, 64, config.hiddenSize)
  const y = await layer.run(x)
  console.log(JSON.stringify({
    ffnExperts: await layer.ffnExperts(x),
    sameLength: y.length === x.length,
    finite: y.every(Number.isFinite),
    largest: Math.max(...y.map(Math.abs)),
  }))
  await layer.close()
`

for (const kind of ['vanilla', 'mixed']) {
  t.test(`a ${kind} layer runs`, async t => {
    const args = ['--input-type=module', '-e', SCRIPT, kind, t.testdir()]
    const env = { ...process.env, NODE_OPTIONS: '' }
    const result = JSON.parse(
      execFileSync(process.execPath, args, { cwd: root, encoding: 'utf8', env }),
    )
    t.ok(result.sameLength && result.finite && result.largest > 0)
    if (kind === 'vanilla') t.equal(result.ffnExperts, 2)
    else
      t.ok(
        result.ffnExperts > 0 && result.ffnExperts < 2,
        `${result.ffnExperts} FFN experts a token`,
      )
  })
}
