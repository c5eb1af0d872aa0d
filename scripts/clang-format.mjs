// Formats the native sources with the pinned clang-format; with --check, lists those that differ
// and fails.
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { root, run } from './build-native.mjs'

const { arch, platform } = process
const folder =
  { darwin: 'darwin_x64', linux: `linux_${arch}`, win32: 'win32' }[platform] ?? platform
const program = join(root, 'node_modules', 'clang-format', 'bin', folder, 'clang-format')
const patterns = ['cc', 'cu', 'h', 'cuh'].flatMap(end => [`native/*.${end}`, `bench/*.${end}`])
const files = execFileSync('git', ['ls-files', '-co', '--exclude-standard', ...patterns], {
  cwd: root,
  encoding: 'utf8',
})
  .split('\n')
  .filter(file => existsSync(join(root, file)) && file !== '')

if (process.argv.includes('--check')) {
  const wrong = files.filter(file => {
    const result = spawnSync(program, [file], { cwd: root, encoding: 'utf8', maxBuffer: 1 << 26 })
    if (result.error) throw result.error
    return result.stdout !== readFileSync(join(root, file), 'utf8')
  })
  for (const file of wrong) console.error(`${file}: not formatted, run npm run format`)
  if (wrong.length > 0) process.exit(1)
} else {
  run(program, ['-i', ...files])
}
