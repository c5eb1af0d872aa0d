/**
 * A registry of npm packages that serves what the checkout has installed, so that installing needs
 * no network.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { basename, dirname, join } from 'node:path'
import { root } from '../support/golden.js'

const json = (...path: string[]) => JSON.parse(readFileSync(join(root, ...path), 'utf8'))

/** The folders of the packages that are installed, relative to the root. */
const folders = Object.keys(json('package-lock.json').packages).filter(
  path => path !== '' && existsSync(join(root, path, 'package.json')),
)

/** A folder as a tarball, in its own folder as npm wants it, without the packages inside. */
function tarballOf(folder: string): Buffer {
  const name = basename(folder)
  const args = ['-cz', '-C', join(root, dirname(folder)), `--exclude=${name}/node_modules`, name]
  return spawnSync('tar', args, { maxBuffer: 1 << 28 }).stdout
}

/** The registry's words on a package, or undefined. */
function describe(name: string, host: string | undefined): object | undefined {
  const versions: Record<string, object> = {}
  for (const folder of folders.filter(path => path.endsWith(`node_modules/${name}`))) {
    const manifest = json(folder, 'package.json')
    const dist = { tarball: `http://${host}/tarballs/${encodeURIComponent(folder)}` }
    versions[manifest.version] = { ...manifest, dist }
  }
  const latest = Object.keys(versions).at(-1)
  return latest === undefined ? undefined : { name, 'dist-tags': { latest }, versions }
}

/** Serves until closed; `url` is its address. */
export async function startRegistry(): Promise<{ server: Server; url: string }> {
  const server = createServer((request, response) => {
    const path = decodeURIComponent(new URL(request.url!, 'http://localhost').pathname).slice(1)
    if (path.startsWith('tarballs/')) {
      response.end(tarballOf(path.slice('tarballs/'.length)))
      return
    }
    const description = describe(path, request.headers.host)
    if (description === undefined) response.statusCode = 404
    response.setHeader('content-type', 'application/json')
    response.end(JSON.stringify(description ?? {}))
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  return { server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }
}
