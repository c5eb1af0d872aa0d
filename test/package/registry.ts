/**
 * A registry of npm packages that serves what the checkout has installed, so that installing needs
 * no network.
 */
import { readFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { root } from '../support/golden.js'
import { runNpm } from './processes.js'

interface Packed {
  readonly name: string
  readonly version: string
  readonly filename: string
  readonly integrity: string
}

/** Folders of the packages that users of moepp get, by the lock file. */
function productionFolders(): string[] {
  const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { dev?: boolean; devOptional?: boolean; optional?: boolean }>
  }
  return Object.entries(packages)
    .filter(([path, entry]) => path !== '' && !entry.dev && !entry.devOptional && !entry.optional)
    .map(([path]) => path)
}

/** Serves until closed; `url` is its address. */
export async function startRegistry(folder: string): Promise<{ server: Server; url: string }> {
  const folders = productionFolders()
  const { stdout } = await runNpm(
    [
      'pack',
      '--json',
      '--ignore-scripts',
      '--pack-destination',
      folder,
      ...folders.map(path => `./${path}`),
    ],
    { cwd: root },
  )
  const packed = (JSON.parse(stdout) as Packed[]).map((entry, i) => ({
    ...entry,
    manifest: JSON.parse(readFileSync(join(root, folders[i]!, 'package.json'), 'utf8')),
  }))
  const server = createServer((request, response) => {
    const path = decodeURIComponent(new URL(request.url!, 'http://localhost').pathname).slice(1)
    if (path.startsWith('tarballs/')) {
      response.end(readFileSync(join(folder, path.slice('tarballs/'.length))))
      return
    }
    const versions = packed.filter(({ name }) => name === path)
    if (versions.length === 0) {
      response.writeHead(404).end('{}')
      return
    }
    const tarball = (file: string) =>
      `http://${request.headers.host}/tarballs/${encodeURIComponent(file)}`
    response.setHeader('content-type', 'application/json')
    response.end(
      JSON.stringify({
        name: path,
        'dist-tags': { latest: versions.at(-1)!.version },
        versions: Object.fromEntries(
          versions.map(({ version, manifest, filename, integrity }) => [
            version,
            { ...manifest, dist: { tarball: tarball(filename), integrity } },
          ]),
        ),
      }),
    )
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  return { server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }
}
