// Programs without a bundler: Node, worker threads, tsx, Bun, Deno; and an Electron archive.
import assert from 'node:assert/strict'
import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, relative } from 'node:path'
import { addonFile, appFolder, printsText, Skip } from './process.mjs'

const node = process.execPath
const [major] = process.versions.node.split('.').map(Number)

/** The binary of a package, which its install script would only link. */
export function binary({ project }, name, packages) {
  const path = packages.map(file => join(project, 'node_modules', file)).find(existsSync)
  if (path === undefined) throw new Skip(`npm has no ${name} for ${process.platform} here`)
  return path
}

export const bun = context => {
  const folder = `bun-${process.platform}-${process.arch === 'arm64' ? 'aarch64' : process.arch}`
  return binary(context, 'Bun', [`@oven/${folder}/bin/bun`, `@oven/${folder}-musl/bin/bun`])
}

const deno = context => {
  const platform = `@deno/${process.platform}-${process.arch}`
  return binary(context, 'Deno', [`${platform}-glibc/deno`, `${platform}/deno`])
}

export const runtimes = [
  [
    'Node',
    context => printsText(context, [node, 'text.mjs'], appFolder(context, 'node', ['node'])),
  ],
  [
    'worker thread',
    context => printsText(context, [node, 'worker.mjs'], appFolder(context, 'worker', ['worker'])),
  ],
  ['tsx, ES module', context => runTsx(context, 'text.mts')],
  [
    'tsx, CommonJS',
    context => {
      if (major < 22) throw new Skip('tsx on Node 20 cannot require an ES module from a .cts file')
      runTsx(context, 'text.cts')
    },
  ],
  [
    'Bun',
    context => printsText(context, [bun(context), 'text.mjs'], appFolder(context, 'bun', ['node'])),
  ],
  [
    'Deno',
    context => {
      const permissions = ['--allow-read', '--allow-env', '--allow-ffi']
      const command = [deno(context), 'run', ...permissions, 'text.mjs']
      printsText(context, command, appFolder(context, 'deno', ['node']))
    },
  ],
  ['asar archive: the unpacked addon and model, by Node', runUnpacked],
  [
    'Electron itself',
    () => {
      throw new Skip('its binary is a download of its install script, which npm has not')
    },
  ],
]

function runTsx(context, file) {
  const folder = appFolder(context, 'tsx', ['node'])
  cpSync(join(folder, 'text.mjs'), join(folder, 'text.mts'))
  const tsx = join(context.project, 'node_modules', 'tsx', 'dist', 'cli.mjs')
  printsText(context, [node, tsx, file], folder)
}

/**
 * An archive as electron-builder makes it: both packages lie beside it, whole, where Electron
 * looks.
 */
async function runUnpacked(context) {
  const { project, scratch } = context
  const folder = appFolder(context, 'electron', ['electron'])
  const { asarUnpack } = JSON.parse(readFileSync(join(folder, 'electron-builder.json'), 'utf8'))
  const app = join(scratch, 'electron-app')
  for (const name of ['moepp', 'moepp-books-7m']) {
    const installed = join('node_modules', name)
    cpSync(join(project, installed), join(app, installed), { recursive: true })
  }
  const archive = join(scratch, 'app.asar')
  const asar = createRequire(join(project, 'package.json'))('@electron/asar')
  await asar.createPackageWithOptions(app, archive, { unpack: `**/{${asarUnpack.join(',')}}` })
  const unpacked = `${archive}.unpacked`
  const addon = join(unpacked, relative(project, addonFile(context)))
  assert.deepEqual(readFileSync(addon), readFileSync(addonFile(context)))
  assert.ok(!existsSync(join(unpacked, 'node_modules', 'moepp', 'dist')), 'the rest is packed')
  assert.ok(asar.listPackage(archive).includes('/node_modules/moepp/dist/index.js'))
  const model = join(unpacked, 'node_modules', 'moepp-books-7m')
  const program = readFileSync(join(context.apps, 'node', 'text.mjs'), 'utf8')
  const file = join(folder, 'text.mjs')
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, program.replace("'npm:moepp-books-7m'", JSON.stringify(model)))
  printsText(context, [node, file], folder, { MOEPP_BINDING: addon })
}
