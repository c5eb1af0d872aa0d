// Builds the addon for this platform into prebuilds/, stripped, where node-gyp-build finds it in an
// installed package. In a folder of its own (build/prebuild), so that a developer's build stays
// what it is. The environment is build-native.mjs's.
import { createHash } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import prebuildify from 'prebuildify'
import { root } from './build-native.mjs'

const folder = join(root, 'build', 'prebuild')
const product = join(root, 'prebuilds', `${process.platform}-${process.arch}`)
rmSync(product, { recursive: true, force: true })
mkdirSync(folder, { recursive: true })

const builder = join(dirname(fileURLToPath(import.meta.url)), 'cmake-gyp.mjs')
const options = {
  name: 'moepp',
  napi: true,
  strip: true,
  cwd: folder,
  out: root,
  // Windows has no #! lines; prebuildify uses a shell there.
  nodeGyp: process.platform === 'win32' ? `"${process.execPath}" "${builder}"` : builder,
}
// Elsewhere there is one C library.
if (process.platform === 'linux') options.tagLibc = true

prebuildify(options, error => {
  if (error) {
    console.error(`moepp: no prebuild was made: ${error.message}`)
    process.exit(1)
  }
  for (const file of readdirSync(product)) {
    const path = join(product, file)
    const bytes = readFileSync(path)
    // Compared before the file is loaded (lib/addon/addon-file.ts).
    writeFileSync(
      `${path}.sha256`,
      `${createHash('sha256').update(bytes).digest('hex')}  ${file}\n`,
    )
    console.log(`${relative(root, path)}: ${bytes.length} bytes`)
  }
})
