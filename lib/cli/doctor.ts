/** `moepp doctor`: prints what moepp runs on, and why. */

import { Command } from 'commander'
import type { CreateCommand } from './command.js'
import { type CpuDiagnosis, type CudaDiagnosis, type Diagnosis, diagnose } from './diagnose.js'
import { describeParallel } from './diagnose-parallel.js'
import { formatBytes, formatTable } from './format.js'

export const doctorCommand: CreateCommand = (terminal, setExitCode) =>
  new Command('doctor')
    .description('Shows the device that models run on, and why: processor, threads, memory, GPU.')
    .option('--json', 'print one JSON document')
    .action(async ({ json }: { json?: true }) => {
      const diagnosis = await diagnose()
      if (json) await terminal.writeJson(diagnosis)
      else await terminal.write(`${describe(diagnosis)}\n`)
      if ('error' in diagnosis.addon) setExitCode(1)
    })

function describe(diagnosis: Diagnosis): string {
  const { version, node, platform, glibc, addon, cpu, cuda, parallel } = diagnosis
  const rows = [
    ['moepp', `${version}, Node ${node}`],
    ['platform', glibc === null ? platform : platform.replace('glibc', `glibc ${glibc}`)],
    ['addon', 'path' in addon ? addon.path : addon.error],
  ]
  if ('reason' in addon) rows.push(['', addon.reason])
  if (cpu) {
    rows.push(
      ['processor', cpu.model],
      ['instruction set', describeIsas(cpu)],
      ['threads', `${cpu.threads}: ${cpu.threadsReason}`],
      [
        'memory',
        `${formatBytes(cpu.memoryBytes)}, read at ${formatBytes(cpu.readBytesPerSecond)}/s`,
      ],
    )
  }
  if (cuda) rows.push(...describeCuda(cuda))
  rows.push(...describeParallel(parallel))
  return formatTable(rows, ['left', 'left'])
}

function describeIsas({ isa, quantisedIsa, availableIsas }: CpuDiagnosis): string {
  const used = isa === quantisedIsa ? isa : `${isa}; ${quantisedIsa} for int8 and int4`
  const others = availableIsas.filter(each => each !== isa && each !== quantisedIsa)
  return others.length > 0 ? `${used}; ${others.join(', ')} would run too` : used
}

function describeCuda({
  built,
  runtimeVersion,
  driver,
  driverCuda,
  gpus,
  used,
  reason,
  debug,
}: CudaDiagnosis) {
  const supports = driverCuda === null ? '' : `supports CUDA ${driverCuda}`
  return [
    [
      'CUDA',
      built
        ? `compiled in${runtimeVersion === null ? '' : `, version ${runtimeVersion}`}`
        : 'not compiled in',
    ],
    ['NVIDIA driver', [driver, supports].filter(Boolean).join(', ') || 'none'],
    ...gpus.map(gpu => ['GPU', gpu]),
    ['models run on', used === null ? `the CPU: ${reason}` : `${used}: ${reason}`],
    ...(debug.length > 0 ? [['', `MOEPP_CUDA_DEBUG: ${debug.join(', ')}`]] : []),
  ]
}
