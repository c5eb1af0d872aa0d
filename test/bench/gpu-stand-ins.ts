/**
 * A machine for the test of bench/gpu.sh. Shell scripts stand in for nvidia-smi, the CUDA toolkit
 * and moepp-native. The PATH has nothing else but some of the system's own tools.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { text } from 'node:stream/consumers'
import type { Test } from 'tap'
import { root } from '../support/golden.js'

const TOOLS = `awk bash cat chmod cp cut date dirname env git grep head mkdir mawk nproc rm sed
  sh sleep sort tail tee timeout tr true wc`.split(/\s+/)

export interface Card {
  /** Lines of the first query: index, UUID, compute capability, name. */
  gpus: string[]
  /** Of `nvidia-smi -L`. */
  list?: string
  /** By the names of fields. */
  facts?: Record<string, string>
  virtualization?: string
}

const FACTS = {
  driver_version: '580.95.05',
  compute_cap: '9.0',
  persistence_mode: 'Enabled',
  'memory.total': '81559 MiB',
  'ecc.mode.current': 'Enabled',
  'mig.mode.current': 'Disabled',
  'clocks.sm': '1980',
  'clocks.mem': '2619',
  'temperature.gpu': '61',
  'power.draw': '512.31',
  'power.limit': '700.00',
  'power.default_limit': '700.00',
  'clocks_event_reasons.active': '0x0000000000000000',
}

export const H100: Card = { gpus: ['0, GPU-aaaa-1, 9.0, NVIDIA H100 80GB HBM3'] }

function nvidiaSmi({ gpus, list, facts, virtualization }: Card) {
  const cases = Object.entries({ ...FACTS, ...facts }).map(
    ([name, value]) => `    ${name}) value='${value}' ;;`,
  )
  return `case "$*" in
  -L) printf '%s\\n' '${list ?? ''}'; exit ;;
  -q*) printf '    GPU Virtualization Mode\\n        Virtualization Mode : %s\\n' '${virtualization ?? 'None'}'; exit ;;
  --query-gpu=*) ${gpus.length === 0 ? "echo 'No devices were found'; exit 6" : `printf '%s\\n' ${gpus.map(gpu => `'${gpu}'`).join(' ')}`}; exit ;;
esac
fields=\${2#--query-gpu=}
line=
for field in $(echo "$fields" | tr ',' ' '); do
  case $field in
${cases.join('\n')}
    *) echo "Field \\"$field\\" is not a valid field to query."; exit 2 ;;
  esac
  line="$line, $value"
done
echo "\${line#, }"
`
}

/** A row as moepp-native prints it. */
export const row = (name: string, dtype: string, tokens: number, us: number, share: string) =>
  `${name.padEnd(40)} ${dtype.padEnd(5)} ${String(tokens).padStart(5)} ${us.toFixed(1).padStart(10)} us ${share}   best ${us.toFixed(1).padStart(10)} us ${share}`

const ROWS: Record<string, string[]> = {
  decode: [
    row('decode, context 512, 24 layers', 'bf16', 1, 1210, '1810.00 of 3010.2 GB/s     60.1 %'),
  ],
  grouped_gemm_bf16: [
    row(
      'grouped_gemm 1536 -> 2 x 4096, swiglu',
      'bf16',
      8192,
      1320,
      ' 250.00 of  790.0 TFLOP/s  31.6 %',
    ),
  ],
  norm_route_top_k: [
    row(
      'norm_route_top_k 1536 -> 20 + 4, top 2',
      'f32',
      1,
      5.1,
      '  34.00 of 3010.2 GB/s      1.1 %',
    ),
  ],
}
const OTHER = [row('other', 'bf16', 2048, 100, ' 100.00 of 3010.2 GB/s      3.3 %')]

/**
 * moepp-native: tests and benches that its names describe. MOEPP_CUDA_DEBUG=no-wgmma takes twice
 * the time of a grouped GEMM.
 */
export const PROGRAM = `case "$1 $2 $3" in
  'device  ') [ -z "$DEVICE_HANGS" ] || exec sleep 30
    [ -z "$NO_DEVICE" ] || { echo "moepp-native: nothing was tested: $NO_DEVICE" >&2; exit 2; }
    echo 'device: stand-in, the first of 1 that CUDA sees'; exit ;;
  'test --gpu --list') echo "\${TESTS-simt_warp_passes simt_mma_passes}" | tr ' ' '\\n'; exit ;;
  'bench --list ') printf '%s\\n' attention_bf16 decode grouped_gemm_bf16 linear_bf16 moe_layer norm_route_top_k top_logits $BENCHES; exit ;;
  'bench expert-forward --device=cuda')
    [ -z "$EXPERTS_CRASH" ] || kill -SEGV $$
    case "$*" in *2048,8192) for tau in 0.1 0.75; do
      echo "{\\"device\\":\\"x\\",\\"tokens\\":8192,\\"tau\\":$tau,\\"ffnShare\\":0.5,\\"moeppSeconds\\":0.001,\\"vanillaSeconds\\":0.00125}"; done ;;
    esac; exit ;;
esac
name=$4
echo "run $*"
if [ "$MOEPP_CUDA_DEBUG" = "\${FAILS-none}" ]; then
  echo 'WRONG: got 3'
  exit 1
fi
case "$name" in
  *_fails) echo '    file.cu:7: got 3'; echo "FAIL $name"; exit 1 ;;
  *_hangs) echo 'before the hang'; exec sleep 30 ;;
  *_crashes) kill -SEGV $$ ;;
  *_killed) kill -KILL $$ ;;
  *_too_large) echo 'weights                                  does not fit: 9663676416 bytes more are needed, 1048576 are free'; exit ;;
${Object.entries(ROWS)
  .map(([name, lines]) => `  ${name}) text='${lines.join('\n')}' ;;`)
  .join('\n')}
  *) text='${OTHER.join('\n')}' ;;
esac
if [ "$MOEPP_CUDA_DEBUG $name" = 'no-wgmma grouped_gemm_bf16' ]; then
  text=$(echo "$text" | sed 's/1320\\.0/2640.0/g')
fi
echo "$text"
`

/** Counts a kernel's sectors, as Nsight Compute prints them. */
export const NCU = `echo '==PROF== Connected'
echo '    lts__t_sectors_op_read.sum       sector      4,194,304'
`
const exec = (skip: number) => `shift ${skip}\nexec "$@"\n`
/** Finds nothing; or an error in the tools and parts that $ERRORS names. */
export const SANITIZER = `case " $ERRORS " in *" $2:$8 "*) echo '========= ERROR SUMMARY: 1 error'; exit 1 ;; esac
${exec(4)}`

export class Machine {
  readonly folder: string
  constructor(t: Test, programs: Record<string, string>) {
    this.folder = mkdtempSync(join(tmpdir(), 'gpu-script-'))
    t.teardown(() => rmSync(this.folder, { recursive: true }))
    for (const name of ['bin', 'bench', 'home']) mkdirSync(join(this.folder, name))
    cpSync(join(root, 'bench/gpu.sh'), join(this.folder, 'bench/gpu.sh'))
    cpSync(join(root, 'bench/gpu'), join(this.folder, 'bench/gpu'), { recursive: true })
    for (const name of TOOLS) {
      const path = ['/usr/bin', '/bin'].map(bin => join(bin, name)).find(existsSync)
      if (path) symlinkSync(path, join(this.folder, 'bin', name))
    }
    for (const [name, text] of Object.entries(programs)) this.add(name, text)
  }
  /** A program of the PATH. */
  add(name: string, text: string) {
    const path = join(this.folder, 'bin', name)
    mkdirSync(join(path, '..'), { recursive: true })
    writeFileSync(path, `#!/bin/sh\n${text}`)
    chmodSync(path, 0o755)
  }
  addCard(card: Card) {
    this.add('nvidia-smi', nvidiaSmi(card))
  }
  /** bench/gpu.sh with its results in `out`; its program is moepp-native of the PATH, if there. */
  #command(args: string[], env: Record<string, string>, from = '.') {
    const path = (name: string) => relative(join(this.folder, from), join(this.folder, name))
    const given = existsSync(join(this.folder, 'bin/moepp-native'))
    const program = given ? ['--program', path('bin/moepp-native')] : []
    return {
      args: [path('bench/gpu.sh'), ...program, ...args],
      cwd: join(this.folder, from),
      env: {
        PATH: join(this.folder, 'bin'),
        HOME: join(this.folder, 'home'),
        CUDA_PATH: this.folder,
        OUT: join(this.folder, 'out'),
        MOEPP_SAMPLE_SECONDS: '0.05',
        ...env,
      },
    }
  }
  start(given: string[], env: Record<string, string> = {}) {
    const { args, ...options } = this.#command(given, env)
    return spawn('bash', args, { ...options, stdio: 'ignore' })
  }
  /** Processes that it, or a program of its, has started and that still run. */
  alive() {
    return readdirSync('/proc').filter(pid => {
      try {
        return readFileSync(`/proc/${pid}/environ`, 'latin1').includes(`HOME=${this.folder}/home`)
      } catch {
        return false
      }
    }).length
  }
  async run(given: string[], env: Record<string, string> = {}, from = '.') {
    const { args, ...options } = this.#command(given, env, from)
    const out = join(this.folder, 'out')
    const child = spawn('bash', args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] })
    const [stdout, stderr, [status]] = await Promise.all([
      text(child.stdout),
      text(child.stderr),
      once(child, 'exit'),
    ])
    const file = (name: string) => {
      const path = join(out, name)
      return existsSync(path) ? readFileSync(path, 'utf8') : undefined
    }
    return {
      status: status as number | null,
      stdout,
      stderr,
      file,
      files: existsSync(out) ? readdirSync(out).sort() : [],
      last: stdout.trimEnd().split('\n').at(-1),
    }
  }
}

/** A machine with a card and moepp-native. */
export function machineOf(t: Test, card: Card = H100, tools: Record<string, string> = {}) {
  const made = new Machine(t, { 'moepp-native': PROGRAM, ...tools })
  made.addCard(card)
  return made
}
