// Tests the package as its users get it: packs it, installs the tarball in an empty folder, and
// runs it there.
//
//   node scripts/test-package.mjs [tarball]
//
// Without a tarball: makes the prebuild for this platform (a CPU build unless MOEPP_CUDA is ON or
// AUTO) and packs the checkout.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, realpathSync, rmSync } from 'node:fs'
import { delimiter, dirname, join, resolve } from 'node:path'
import { root, run } from './build-native.mjs'

/** The program of npm that runs this, else the one on the PATH. */
function npmProgram() {
  const running = process.env.npm_execpath
  if (running?.endsWith('npm-cli.js')) return running
  const beside = join(dirname(process.execPath), 'node_modules', 'npm', 'bin', 'npm-cli.js')
  const found = process.env.PATH.split(delimiter).map(folder => join(folder, 'npm'))
  for (const candidate of [...found, beside]) {
    if (existsSync(candidate)) {
      const program = realpathSync(candidate)
      if (program.endsWith('.js')) return program
    }
  }
  console.error('moepp: npm was not found')
  process.exit(1)
}

function pack() {
  const folder = join(root, 'build', 'package')
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  const env = { ...process.env, MOEPP_CUDA: process.env.MOEPP_CUDA || 'OFF' }
  run(process.execPath, [join(root, 'scripts', 'prebuild.mjs')], { env })
  const packed = spawnSync(
    process.execPath,
    [npmProgram(), 'pack', '--json', '--pack-destination', folder],
    {
      cwd: root,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  )
  if (packed.status !== 0) process.exit(packed.status ?? 1)
  return join(folder, JSON.parse(packed.stdout)[0].filename)
}

const tarball = process.argv[2] === undefined ? pack() : resolve(process.argv[2])
const env = { ...process.env, MOEPP_TARBALL: tarball, MOEPP_NPM: npmProgram() }
run(
  process.execPath,
  [join(root, 'scripts', 'run-tests.mjs'), join('test', 'package', 'installed-package.ts')],
  { env },
)
