/** A server without the packages that some of its options need. */
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import t from 'tap'
import type { importPeers } from '../../lib/server/peers.js'

t.test('outside of any node_modules', async t => {
  const folder = mkdtempSync(join(tmpdir(), 'moepp-peers-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  writeFileSync(join(folder, 'package.json'), '{"type": "module"}')
  cpSync(fileURLToPath(new URL('../../lib', import.meta.url)), folder, { recursive: true })
  const peers = await import(pathToFileURL(join(folder, 'server', 'peers.js')).href)
  const load: typeof importPeers = peers.importPeers
  const options = { metrics: false, corsOrigins: [] }

  t.same(await load(options), { metrics: undefined, cors: undefined, tracing: undefined })
  await t.rejects(load({ ...options, metrics: true }), {
    message: 'the option metrics needs a further package: npm install prom-client@15',
    cause: { code: 'ERR_MODULE_NOT_FOUND' },
  })
  await t.rejects(load({ ...options, corsOrigins: ['*'] }), {
    message: 'the option corsOrigins needs a further package: npm install @fastify/cors@11',
  })
})
