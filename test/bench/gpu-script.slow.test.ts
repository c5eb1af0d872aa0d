/**
 * bench/gpu.sh on machines that stand-ins make: every stage and every reason to stop, without a
 * GPU. moepp-native itself gives the rows that the table reads.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { root } from '../support/golden.js'
import { H100, Machine, machineOf, NCU, PROGRAM, SANITIZER } from './gpu-stand-ins.js'

const skip = process.platform !== 'linux' && 'the stand-ins are shell scripts of Linux'
const { programs } = await import(join(root, 'scripts', 'build-native.mjs' as string))

t.test('all stages of a card where all is right', { skip }, async t => {
  const { status, stdout, last, file, files } = await machineOf(t, H100, {
    ncu: NCU,
    'compute-sanitizer': SANITIZER,
  }).run([])
  t.equal(status, 0, stdout)
  t.equal(last, 'all is right')
  for (const stage of [
    'build',
    'probe',
    'tests',
    'first',
    'counters',
    'sanitize',
    'node',
    'nccl',
    'bench',
  ])
    t.ok(files.includes(`${stage}.txt`), stage)
  t.match(file('summary.txt'), /^build: SKIPPED, .*\nprobe: right, \d+ s; NVIDIA H100 80GB HBM3\n/)
  t.match(file('summary.txt'), /^tests: right, \d+ s; 2 PASS$/m)
  t.match(file('summary.txt'), /^node: SKIPPED, \d+ s; node was not found/m)
  t.match(file('summary.txt'), /^nccl: SKIPPED, \d+ s; there are not two GPUs: nothing was/m)
  t.match(file('probe.txt'), /^driver: +580\.95\.05$/m)
  t.match(file('probe.txt'), /^clock at most: +the driver does not say$/m)
  t.match(file('probe.txt'), /^ECC: +Enabled$/m)
  t.match(file('probe.txt'), /^clocks lowered by: +none$/m)
  t.match(file('tests.txt'), /^PASS +\d+\.\d s {2}simt_warp_passes\nPASS +\d+\.\d s {2}simt_mma/)
  t.match(
    file('first.txt'),
    /^grouped_gemm, 8192 tokens +1320\.0 +1\.000 x +1\.000 x +1\.000 x +2\.000 x( +1\.000 x){4}$/m,
  )
  t.match(file('first-rows.txt'), /--exact attention_bf16 --seconds=0.2 --tokens=1 --row=decode, /)
  t.match(file('bench.txt'), /^clocks: 1980 to 1980 MHz in \d+ samples, at most 61 C and 512 W$/m)
  t.match(file('table.txt'), /^\| decode, batch 1, .* \| 1210\.0 us, 1810\.00 of 3010\.2 GB\/s/m)
  t.match(
    file('table.txt'),
    /^\| grouped GEMM, .* 8192 tokens \| .* \| 250\.00 of 790\.0 TFLOP\/s/m,
  )
  t.match(
    file('table.txt'),
    /^\| expert forward, .* 0\.75 \| 1\.29 x vanilla \| 1\.25 x vanilla \|$/m,
  )
  t.match(file('summary.txt'), /^table: right, \d+ s; 5 of 12 targets measured$/m)
  t.match(file('table.txt'), /^\| decode, batch 64, .*\| not measured \|$/m)
})

t.test('a row that fails, hangs or is too large, with a part switched off', { skip }, async t => {
  const { status, file } = await machineOf(t).run(['first'], { FAILS: 'no-split' })
  t.equal(status, 1)
  t.match(file('first.txt'), /^linear, 2048 tokens +100\.0( +1\.000 x){6} +FAIL +1\.000 x$/m)
  t.match(file('first-rows.txt'), /^\$ no-split: linear_bf16 --tokens=2048, FAIL\nrun .*\nWRONG/m)
  const large = PROGRAM.replace('echo "$text"\n', 'echo "decode   does not fit: 3 bytes more"\n')
  const small = await machineOf(t, H100, { 'moepp-native': large }).run(['first'])
  t.equal(small.status, 0)
  t.match(small.file('first.txt'), /^decode, batch 1, 8 layers +too large( +too large){8}$/m)
})

t.test("paths are meant from the caller's folder", { skip }, async t => {
  const made = machineOf(t)
  const { status, stderr, files } = await made.run(['probe'], { OUT: 'results' }, 'home')
  t.equal(status, 0, stderr)
  t.same(files, [])
  t.ok(existsSync(join(made.folder, 'home/results/probe.txt')))
})

t.test('ranks with a GPU each', { skip }, async t => {
  const two = { ...H100, gpus: [...H100.gpus, '1, GPU-bbbb-2, 9.0, NVIDIA H100 80GB HBM3'] }
  const mpirun = `echo "mpirun \${CUDA_VISIBLE_DEVICES-all} $*"`
  const node = `echo "node \${CUDA_VISIBLE_DEVICES-all} $*"`
  const made = machineOf(t, two, { node, mpirun, mpicc: 'true' })
  t.match(await made.run(['nccl']), {
    status: 1,
    stdout: /^nccl: SKIPPED, .* there is no addon/m,
  })
  const addon = join(made.folder, 'build/Release')
  mkdirSync(addon, { recursive: true })
  writeFileSync(join(addon, 'moepp.node'), '')
  const right = await made.run(['nccl'], { CUDA_VISIBLE_DEVICES: '1' })
  t.equal(right.status, 0, right.stdout)
  t.match(right.stdout, /^node all scripts\/run-tests\.mjs test\/cuda\/nccl\.slow\.test\.ts$/m)
  t.match(right.stdout, /^mpirun all -n 2 node dist\/cli\/main\.js bench .*--device cuda$/m)
  t.match(right.stdout, /^-- nccl: right, \d+ s; 2 GPUs$/m)
  const alone = await machineOf(t, two, { node }).run(['nccl'])
  t.match(alone.stdout, /^nccl: SKIPPED, \d+ s; mpirun was not found/m)
})

t.test('whole models through the addon', { skip }, async t => {
  const node = `echo "$MOEPP_CUDA_ARCHITECTURES $MOEPP_WERROR $MOEPP_TEST_GPU $*"
    case "$*" in *"$NODE_FAILS"*) exit 1 ;; esac`
  const made = machineOf(t, H100, { node, npm: 'true', nvcc: 'true' })
  t.match(await made.run(['node']), {
    status: 1,
    stdout: /^node: SKIPPED, .* there is no node_modules/m,
  })
  mkdirSync(join(made.folder, 'node_modules'))
  const right = await made.run(['node'], { NODE_FAILS: 'none' })
  t.equal(right.status, 0)
  t.match(
    right.file('node.txt'),
    /^90a-real OFF {2}scripts\/setup\.mjs\n {2}1 scripts\/run-tests\.mjs test/,
  )
  for (const script of ['setup', 'run-tests'])
    t.match(await made.run(['node'], { NODE_FAILS: script }), {
      status: 1,
      stdout: /^node: FAILED/m,
    })
})

t.test('sanitizers and counters', { skip }, async t => {
  const made = machineOf(t, H100, { ncu: 'echo ==ERROR== ERR_NVGPUCTRPERM; exit 1' })
  const without = await made.run(['counters', 'sanitize'])
  t.match(without, { status: 1, last: 'NOTHING WAS RUN' })
  t.match(without.stdout, /^counters: SKIPPED, .* only an administrator may read the counters/m)
  t.match(
    without.stdout,
    /^sanitize: SKIPPED, .*memcheck, synccheck, racecheck, initcheck did not/m,
  )
  made.add('ncu', 'echo nothing was profiled')
  made.add('compute-sanitizer', SANITIZER)
  const failing = await made.run(['counters', 'sanitize'], { ERRORS: 'racecheck:simt_linear' })
  t.equal(failing.status, 1)
  t.match(failing.stdout, /^counters: FAILED, .* none of multiply_wgmma multiply_streamed/m)
  t.match(failing.stdout, /^sanitize: FAILED, .* 1 FAIL; errors: racecheck:simt_linear$/m)
  const short = await made.run(['sanitize'], { MOEPP_SANITIZE_SECONDS: '0' })
  t.match(short.stdout, /39 NOT RUN; out of time: memcheck synccheck racecheck initcheck$/m)
})

t.test('without a GPU that can be used nothing is tested', { skip }, async t => {
  const refused = async (
    made: Machine,
    text: RegExp,
    env: Record<string, string> = {},
    args = ['tests'],
  ) => {
    const { status, stderr, files } = await made.run(args, env)
    t.equal(status, 2, stderr)
    t.match(stderr, text)
    t.notOk(files.includes('tests.txt'))
  }
  const made = new Machine(t, { 'moepp-native': PROGRAM })
  await refused(made, /nothing was tested: there is no NVIDIA driver on this machine/)
  made.add('nvidia-smi', "echo 'NVIDIA-SMI has failed because it could not communicate'; exit 9")
  await refused(made, /nothing was tested: the driver does not answer: NVIDIA-SMI has failed/)
  made.addCard({ gpus: [] })
  await refused(made, /nothing was tested: the driver does not answer: No devices were found/)
  made.addCard(H100)
  for (const name of ['', '1', '-1', 'GPU-bbbb', 'MIG-1', 'none'])
    await refused(
      made,
      /nothing was tested: CUDA_VISIBLE_DEVICES is '.*', and no GPU is called so/,
      {
        CUDA_VISIBLE_DEVICES: name,
      },
    )
  const old =
    'the NVIDIA driver supports CUDA 12.4, this build needs CUDA 13.0 (driver 580 or newer)'
  await refused(
    made,
    /nothing was tested: the NVIDIA driver supports CUDA 12\.4/,
    { NO_DEVICE: old },
    [],
  )
  made.addCard({ ...H100, facts: { 'mig.mode.current': 'Enabled' }, list: 'GPU 0: NVIDIA H100' })
  await refused(made, /MIG is enabled on GPU 0, but it is not divided/)
  made.addCard({ gpus: ['0, GPU-aaaa-1, 7.0, Tesla V100'] })
  await refused(
    made,
    /GPU 0 \(Tesla V100\) is too old: compute capability 7\.5 or newer .* has 7\.0/,
  )
  made.add('nvidia-smi', 'exec sleep 30')
  await refused(made, /the driver does not answer: nvidia-smi did not end/, {
    MOEPP_SMI_SECONDS: '1',
  })
})

t.test('the card that CUDA takes', { skip }, async t => {
  const gpus = [
    '0, GPU-aaaa-1, 9.0, NVIDIA H100 80GB HBM3',
    '1, GPU-bbbb-2, 8.9, NVIDIA RTX 4000 Ada Generation',
  ]
  const list = `GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-aaaa-1)
  MIG 1g.10gb     Device  0: (UUID: MIG-cccc-3)
GPU 1: NVIDIA RTX 4000 Ada Generation (UUID: GPU-bbbb-2)`
  const made = machineOf(t, { gpus, list })
  const first = await made.run(['probe'])
  t.match(first.stdout, /^note: of 2 GPUs, GPU 0 is used \(NVIDIA H100 80GB HBM3\)/m)
  for (const name of ['1', 'GPU-bbbb', '1,0']) {
    const { status, file } = await made.run(['probe'], { CUDA_VISIBLE_DEVICES: name })
    t.equal(status, 0)
    t.match(file('probe.txt'), /^moepp on NVIDIA RTX 4000 Ada Generation, /)
  }
  made.addCard({
    gpus,
    list,
    facts: { 'mig.mode.current': 'Enabled', 'power.limit': '500.00' },
    virtualization: 'VGPU',
  })
  const slice = await made.run(['probe'], { CUDA_VISIBLE_DEVICES: 'MIG-cccc-3' })
  t.match(slice.file('probe.txt'), /^moepp on NVIDIA H100 80GB HBM3, /)
  t.match(slice.file('probe.txt'), /^note: MIG is enabled: CUDA sees one slice/m)
  t.match(slice.file('probe.txt'), /^note: this is a vGPU/m)
  t.match(slice.stdout, /^note: the power limit is 500\.00 W, by default it is 700\.00 W$/m)
  t.match((await made.run(['probe'])).stdout, /^note: a slice: MIG 1g\.10gb .*MIG-cccc-3\)$/m)
  made.addCard({ gpus, facts: { driver_version: '550.54', persistence_mode: 'Disabled' } })
  const old = await made.run(['probe'])
  t.equal(old.status, 0)
  t.match(old.file('probe.txt'), /^note: the driver is 550\.54: CUDA 13 needs 580 or newer, or/m)
  t.match(old.file('probe.txt'), /^persistence mode: +Disabled$/m)
  t.match(old.file('probe.txt'), /^note: persistence mode is off, so that each test may load/m)
})

/** Writes the program where CMake would. */
const CMAKE = `if [ "$1" = --build ]; then
  [ -z "$BUILD_FAILS" ] || exit 1
  [ "$5" = --parallel ] && [ "$6" -ge 1 ] || exit 1
  cp moepp-native.stand-in "$2/moepp-native"
else
  mkdir -p "$4"
  echo "$*"
fi
`
t.test('the program is built for the card, or for others', { skip }, async t => {
  const made = new Machine(t, { cmake: CMAKE, nvcc: 'true', '../moepp-native.stand-in': PROGRAM })
  made.addCard(H100)
  const own = await made.run(['tests'])
  t.equal(own.status, 0, own.stdout + own.stderr)
  t.match(own.file('build.txt'), /-DMOEPP_WERROR=OFF -DMOEPP_CUDA_ARCHITECTURES=90a-real /)
  t.match(own.file('summary.txt'), /^build: right, .*\ntests: right, /)
  const { file } = await made.run(['tests'])
  t.equal(file('summary.txt')?.match(/^build/gm)?.length, 1)
  const again = await made.run(['build', 'probe'], { BUILD_FAILS: '1' })
  t.match(again, { status: 1, last: 'SOMETHING FAILED' })
  t.notMatch(again.stdout, /^probe/m)
  t.notOk(existsSync(join(made.folder, 'build/gpu-native-90a-real/moepp-native')))
  const others = new Machine(t, { cmake: CMAKE, nvcc: 'true', '../moepp-native.stand-in': PROGRAM })
  const many = await others.run(['build', '--architectures', '90a-real;89-real'])
  t.equal(many.status, 0, many.stderr)
  t.match(many.file('build.txt'), /-DMOEPP_CUDA_ARCHITECTURES=90a-real;89-real /)
  t.match(many.file('summary.txt'), /; build\/gpu-native-90a-real\+89-real\/moepp-native, 0 MiB/)
  others.add('readelf', "printf '%s\\n' GLIBC_2.9 GLIBC_2.34 GLIBC_2.4")
  const elsewhere = await others.run(['build', '--architectures', '90a-real;89-real'])
  t.match(elsewhere.stdout, /^the program needs GLIBC_2\.34$/m)
  const bare = new Machine(t, {})
  bare.addCard(H100)
  const without = await bare.run([])
  t.equal(without.status, 1)
  t.match(without.stdout, /^nvcc was not found: .*--program/m)
  t.notOk(without.files.includes('probe.txt'))
})

t.test('wrong use', { skip }, async t => {
  for (const [args, text] of [
    [['--fast'], /there is no option --fast/],
    [['test'], /there is no stage test: build probe/],
    [['--program'], /--program needs a value/],
    [['--program', 'bench/none'], /--program: .*bench\/none is no program/],
  ] as const) {
    const made = new Machine(t, {})
    made.addCard(H100)
    const { status, stderr } = await made.run([...args])
    t.equal(status, 64)
    t.match(stderr, text)
  }
  t.match((await new Machine(t, {}).run(['--help'])).stdout, /^bench\/gpu\.sh|Tests and measures/m)
})

const unbuilt = !existsSync(programs.native) && 'moepp-native is not built'
const unbuiltTests = !existsSync(programs.simt) && 'moepp-simt-test is not built'

t.test(
  'moepp-native names its tests and benches',
  { skip: skip || unbuilt || unbuiltTests },
  async t => {
    const run = (program: string, args: string[], env = {}) =>
      spawnSync(program, args, { encoding: 'utf8', env: { ...process.env, ...env } })
    const listed = run(programs.simt, ['--list', '--gpu']).stdout.trim().split('\n')
    const at = (name: string) => listed.indexOf(name)
    const order = ['simt_warp_collectives', 'simt_hints_change_nothing', 'simt_mma_multiplies']
    order.push('simt_wgmma_multiplies', 'simt_piped_gemm', 'simt_bf16_is_rounded_to_nearest_even')
    order.push('simt_top_logits', 'cuda_device_program', 'simt_step_order')
    t.same(
      order.map(at),
      order.map(at).sort((a, b) => a - b),
    )
    t.ok(at(order[0] as string) === 0 && at('simt_step_order') === listed.length - 1)
    const parts = readFileSync(join(root, 'bench/gpu/checks.sh'), 'utf8').match(/_parts="[^"]*/g)
    for (const part of parts?.join(' ').match(/\b(simt|cuda)_\w+/g) ?? [])
      t.ok(
        listed.some(name => name.startsWith(part)),
        part,
      )
    t.notOk(run(programs.simt, ['--list', '--cpu']).stdout.includes('simt_'))
    t.match(run(programs.simt, ['--exact', 'simt_rope_table']), {
      status: 0,
      stdout: /^ok .*\n1 passed/,
    })
    t.match(run(programs.simt, ['--exact', 'simt_rope']), {
      status: 1,
      stderr: /no such test: simt_rope/,
    })
    t.equal(run(programs.simt, ['--exact']).status, 2)
    const lost = { MOEPP_EMULATED_GPU: 'lost' }
    t.match(run(programs.simt, ['--exact', 'simt_step_order'], lost), {
      status: 1,
      stdout:
        /exception: cuda:0: the emulated GPU was lost\nFAIL simt_step_order\n0 passed, 1 failed/,
    })
    t.match(run(programs.native, ['device']), {
      status: 2,
      stderr: /nothing was tested: this build/,
    })
    t.match(run(programs.native, ['bench', '--list']).stdout, /^decode$/m)
  },
)

t.test('the targets are those of bench/README.md', { skip }, async t => {
  const made = new Machine(t, {})
  made.add('../out/bench.txt', '')
  const of = (text: string, column: number) =>
    [...text.matchAll(/^\|.*\d.*\|$/gm)]
      .map(([line]) =>
        line
          .split('|')
          [column]?.trim()
          .replace(/^[<>]= /, ''),
      )
      .filter((target, at, all) => target !== all[at - 1])
  const readme = readFileSync(join(root, 'bench/README.md'), 'utf8')
  const floors = readme.match(/^\| \| target \| floor \|\n(\|.*\n)+/m)?.[0] ?? ''
  const targets = of(floors, 2)
  t.ok(targets.length > 8)
  t.same(of((await made.run(['table'])).stdout.replace(/^\| \| target .*/m, ''), 2), targets)
})

t.test('the table reads the rows that moepp-native prints', { skip: skip || unbuilt }, async t => {
  const args = [
    '--device=cpu',
    '--isa=scalar',
    '--threads=1',
    '--tiny',
    '--seconds=0',
    '--tokens=1',
  ]
  const { stdout } = spawnSync(programs.native, ['bench', ...args, 'norm_route_top_k'], {
    encoding: 'utf8',
  })
  const made = new Machine(t, { 'moepp-native': 'true' })
  made.add('../out/bench.txt', stdout.replaceAll('norm_route_top_k 64', 'norm_route_top_k 1536'))
  const table = await made.run(['table'])
  t.equal(table.status, 0)
  t.same(table.files, ['bench.txt'], 'the table alone writes nothing')
  t.match(
    table.stdout,
    /T = 1 \| <= 2\.5 us \| \d+\.\d us, \d+\.\d+ of \d+\.\d G(B|FLOP)\/s \(\d+\.\d %\) \|$/m,
  )
})
