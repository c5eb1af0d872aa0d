// Checks the house: imports of lib/ and includes of native/ point down, files are not too long.
// Kernels take tensor maps as TMA needs them.
// Part of `npm run lint`.
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'

/** The rooms of lib/, a folder or a file at its root each. A room may use those before it. */
const ROOMS = [
  'errors',
  'base',
  'page',
  'tensor',
  'addon',
  'checkpoint',
  'program',
  'template',
  'tokenizer',
  'sampling',
  'grammar',
  'hub',
  'options',
  'layers',
  'families',
  'engine',
  'model',
  'parallel',
  'chat',
  'generation',
  'load',
  'convert',
  'benchmark',
  'evaluate',
  'routing',
  'server',
  'cli',
  'index',
]

/** The floors of native/, each with its rooms. A room may use the floors before its own. */
const NATIVE_FLOORS = [
  ['status', 'tensor'],
  ['weight_spec', 'queue', 'ops'],
  ['host', 'kernels'],
  ['device'],
  ['weights', 'open_device', 'parallel'],
  ['program', 'cpu', 'cuda'],
  ['binding'],
]

const MOST_LINES = 400
const MOST_KERNEL_LINES = 600
const KERNEL = /^native\/(cpu|cuda)\/kernels\//

const problems = []

function files(...patterns) {
  const listed = execFileSync('git', ['ls-files', '-co', '--exclude-standard', ...patterns], {
    encoding: 'utf8',
  })
  return listed.split('\n').filter(Boolean)
}

function roomOf(file) {
  return file
    .replace(/^lib\//, '')
    .replace(/\.ts$/, '')
    .split('/')[0]
}

function checkImports(file) {
  const floor = ROOMS.indexOf(roomOf(file))
  if (floor < 0) problems.push(`${file}: is in no room that scripts/house-check.mjs lists`)
  for (const [, path] of readFileSync(file, 'utf8').matchAll(/\bfrom '(\.[^']+)'/g)) {
    const target = normalize(join(dirname(file), path))
    const room = roomOf(target.replace(/\.js$/, '.ts'))
    if (ROOMS.indexOf(room) > floor) problems.push(`${file}: imports ${path}, which lies above it`)
  }
}

const nativeRoomOf = file => file.replace(/^native\//, '').split(/[/.]/)[0]
const nativeFloorOf = room => NATIVE_FLOORS.findIndex(rooms => rooms.includes(room))

function checkIncludes(file) {
  const room = nativeRoomOf(file)
  const floor = nativeFloorOf(room)
  if (floor < 0) problems.push(`${file}: is in no room that scripts/house-check.mjs lists`)
  for (const [, path] of readFileSync(file, 'utf8').matchAll(/^#include "([^"]+)"/gm)) {
    const target = [join(dirname(file), path), join('native', path)].find(existsSync)
    if (!target) continue // made by the build
    const used = nativeRoomOf(target)
    if (used !== room && nativeFloorOf(used) >= floor)
      problems.push(`${file}: includes ${path}, which does not lie below it`)
  }
}

/** nvcc copies a parameter that is no __grid_constant__ to memory that TMA cannot read. */
function checkTensorMaps(file) {
  for (const [kernel] of readFileSync(file, 'utf8').matchAll(/__global__[^;{}]*\{/g))
    for (const [parameter] of kernel.matchAll(/[^,(]*\b(?:TensorMap|Maps) \w+/g))
      if (!parameter.includes('__grid_constant__'))
        problems.push(`${file}: expected __grid_constant__ in the parameter ${parameter.trim()}`)
}

function checkLength(file) {
  const lines = readFileSync(file, 'utf8').split('\n').length - 1
  const most = KERNEL.test(file) ? MOST_KERNEL_LINES : MOST_LINES
  if (lines > most) problems.push(`${file}: has ${lines} lines, expected at most ${most}`)
}

for (const file of files('lib/*.ts')) checkImports(file)
for (const file of files(
  'native/*.cc',
  'native/*.cu',
  'native/*.h',
  'native/*.cuh',
  'native/*.inc',
))
  if (!file.startsWith('native/test/')) checkIncludes(file)
for (const file of files('native/*.cu', 'native/*.cuh', 'native/*.h', 'bench/*.cu'))
  checkTensorMaps(file)
for (const file of files('*.ts', '*.mjs', '*.cc', '*.cu', '*.h', '*.cuh')) checkLength(file)

if (problems.length > 0) {
  console.error(problems.join('\n'))
  process.exitCode = 1
}
