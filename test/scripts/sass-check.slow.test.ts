/** scripts/sass-check.mjs refuses what is wrong with the kernels of sass/, and nothing else. */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import t from 'tap'
import { root } from '../support/golden.js'

const skip = spawnSync('nvcc', ['--version']).error !== undefined && 'nvcc was not found'

/** The faults that the script tells of a file, without its name. */
function faultsOf(file: string, ...architectures: string[]): string[] {
  const path = join('test', 'scripts', 'sass', file)
  const { status, stderr } = spawnSync(
    process.execPath,
    [join(root, 'scripts', 'sass-check.mjs'), '--arch', architectures.join(','), path],
    { cwd: root, encoding: 'utf8' },
  )
  const lines = stderr.trim().split('\n')
  t.equal(status, 1, stderr)
  t.ok(
    lines.every(line => line.startsWith(`sass-check: ${path}: `)),
    stderr,
  )
  return lines.map(line => line.slice(`sass-check: ${path}: `.length))
}

t.test('the order of programmatic launch', { skip }, async t => {
  const architectures = ['sm_90a', 'sm_100', 'sm_120']
  const wanted = [
    ': no loads_none needs the claim early-LDG<=1',
    ' loads_early: 1 LDG before the wait, expected none',
    ' loads_far_away: 2 LDG before the wait, expected none',
    ' loads_in_branch: 1 LDG before the wait, expected none',
    ' loads_two: 2 LDG before the wait, expected 1',
    ' stores_early: 1 STG before the wait, expected none',
    ' adds_early: 1 RED before the wait, expected none',
    ' copies_early: 1 LDGSTS before the wait, expected none',
    ' lets_go_early: PREEXIT before the wait',
    ' waits_twice: 2 ACQBULK, expected one',
    ' ends_early: EXIT before the wait',
    ' may_not_wait: EXIT before the wait',
    ' may_not_wait: 1 LDG before the wait, expected none',
    ' may_not_wait: 1 STG before the wait, expected none',
  ]
  t.same(
    faultsOf('order.cu', ...architectures).sort(),
    architectures.flatMap(each => wanted.map(fault => each + fault)).sort(),
  )
})

t.test('what ptxas says in lines of information alone', { skip }, async t => {
  const faults = faultsOf('serialised.cu', 'sm_90a')
  t.ok(
    faults.some(fault => /C75\d\d\).* serialized .*serialised/.test(fault)),
    'serialised wgmma',
  )
  t.ok(
    faults.some(fault => /C7508\).*'setmaxnreg' ignored/.test(fault)),
    'setmaxnreg ignored',
  )
  t.notMatch(faults.join('\n'), 'overlapping')
})

interface MachineCode {
  inspectOrder(code: Buffer): { early: Map<string, number>; wrong: string[] } | undefined
  hottestLoop(
    code: Buffer,
    capability: number,
  ): { instructions: number; counts: Map<string, number> } | undefined
}
const readMachineCode = async () =>
  (await import(
    pathToFileURL(join(root, 'scripts', 'sass', 'machine-code.mjs')).href
  )) as MachineCode

/** Machine code, from the halves of its instructions. */
const code = (...halves: bigint[]) => {
  const bytes = Buffer.alloc(halves.length * 8)
  halves.forEach((half, i) => {
    bytes.writeBigUInt64LE(half, i * 8)
  })
  return bytes
}

t.test('branches are followed', async t => {
  const { inspectOrder } = await readMachineCode()
  // Of sm_90.
  const nop = [0x7918n, 0n]
  const wait = [0x782en, 0n]
  const store = [0x5_0200_7986n, 0n]
  const exit = [0x794dn, 0x0380_0000n]
  const load = [0x402_0279_81n, 0n]
  const back = [0x7950n, 0x03c0_0000n]
  const call = [0x0c_7944n, 0x03c0_0000n] // 12 units of 4 bytes on: the load
  const branch = [0x0c_0947n, 0x0380_0000n]
  const indirect = [0x7949n, 0x0380_0000n]
  const rest = [wait, store, exit, load, back].flat()
  const order = (...first: bigint[]) => inspectOrder(code(...first, ...rest))
  t.same(order(...nop), { early: new Map(), wrong: [] })
  t.same(order(...call), { early: new Map([['LDG', 1]]), wrong: [] })
  t.same(order(...branch), { early: new Map([['LDG', 1]]), wrong: [] })
  t.match(order(...indirect)?.wrong, ['BRX before the wait, which cannot be followed'])
  t.match(order(0xff_0947n, 0x0380_0000n)?.wrong, [/a branch to \d+ of 96 bytes/])
  t.equal(inspectOrder(code(...nop, ...exit)), undefined)
})

t.test('the hottest loop', async t => {
  const { hottestLoop } = await readMachineCode()
  const nop = [0x7918n, 0n]
  const product = [0x7223n, 0n] // FFMA
  const matrices = [0x723cn, 0n] // HMMA
  const load = [0x402_0279_81n, 0n]
  /** So many instructions back from the next one. */
  const back = (n: number, capability: number) => {
    const units = BigInt.asUintN(56, BigInt(-4 * n))
    const [upper, near] = capability < 90 ? [units, 0n] : [units >> 8n, units & 0xffn]
    return [((upper & 0x3fff_ffffn) << 34n) | (near << 16n) | 0x0947n, 0x0383_ffffn]
  }
  for (const capability of [75, 80, 90, 120]) {
    const branch = (n: number) => back(n, capability)
    const end = branch(1) // to itself
    // An outer loop of 9, one of two products inside, and one of two loads.
    const inner = [...nop, ...product, ...product, ...branch(3), ...load, ...load, ...branch(3)]
    t.same(hottestLoop(code(...nop, ...inner, ...branch(8), ...end), capability), {
      instructions: 3,
      counts: new Map([
        ['FFMA', 2],
        ['BRA', 1],
      ]),
    })
    t.equal(hottestLoop(code(...nop, ...product, ...end), capability), undefined)
    // Products on tensor cores outweigh those, around another loop too.
    const outer = [...nop, ...inner, ...matrices, ...branch(9)]
    t.equal(hottestLoop(code(...outer, ...end), capability)?.instructions, 9)
  }
})
