// Builds the addon into prebuilds/, stripped: node-gyp-build finds it there in a package.
// It is built in a folder of its own, so that a developer's build stays what it is. The environment
// is build-native.mjs's.
//
//   npm run prebuild [-- --platform=linux-arm64] [--out=FOLDER]
//
// scripts/platforms.mjs has the names. FOLDER gets the prebuilds/; it is the checkout otherwise.
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import prebuildify from 'prebuildify'
import { root, run } from './build-native.mjs'
import { hostPlatform, platformArgument, prebuildFolder, prebuildPath } from './platforms.mjs'

const args = process.argv.slice(2)
const name = platformArgument(args)
const out = resolve(args.find(arg => arg.startsWith('--out='))?.slice('--out='.length) ?? root)
const [platform, arch, tag] = name.split('-')
const folder = prebuildFolder(name)
const product = prebuildPath(name, out)
rmSync(product, { force: true })
mkdirSync(folder, { recursive: true })

const builder = join(dirname(fileURLToPath(import.meta.url)), 'cmake-gyp.mjs')
const options = {
  name: 'moepp',
  napi: true,
  // The linker strips what is for another platform (cmake/platform.cmake).
  strip: name === hostPlatform(),
  cwd: folder,
  out,
  // Windows has no #! lines; prebuildify uses a shell there.
  nodeGyp: process.platform === 'win32' ? `"${process.execPath}" "${builder}"` : builder,
  platform,
  arch,
}
// Elsewhere there is one C library.
if (platform === 'linux') Object.assign(options, { tagLibc: true, libc: tag ?? 'glibc' })

process.env.MOEPP_PLATFORM = name
prebuildify(options, error => {
  if (error) {
    console.error(`moepp: no prebuild was made: ${error.message}`)
    process.exit(1)
  }
  // macOS on arm64 loads nothing unsigned; stripping has ended the linker's own signature.
  if (process.platform === 'darwin') run('codesign', ['--force', '--sign', '-', product])
  const bytes = readFileSync(product)
  // Compared before the file is loaded (lib/addon/addon-file.ts).
  const sum = createHash('sha256').update(bytes).digest('hex')
  writeFileSync(`${product}.sha256`, `${sum}  ${product.split(/[\\/]/).at(-1)}\n`)
  console.log(`${relative(root, product)}: ${bytes.length} bytes`)
})
