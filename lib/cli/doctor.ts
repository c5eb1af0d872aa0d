/** `moepp doctor`: prints what moepp runs on, and why. */

import { Command } from 'commander'
import { type CudaDiagnosis, type Diagnosis, diagnose } from '../doctor.js'
import type { CreateCommand } from './command.js'
import { formatBytes, formatTable } from './format.js'

export const doctorCommand: CreateCommand = (output, setExitCode) =>
  new Command('doctor')
    .description('Shows what models run on here, and why: processor, threads, memory bandwidth, GPU.')
    .option('--json', 'print one JSON document')
    .action(async ({ json }: { json?: true }) => {
      const diagnosis = await diagnose()
      if (json) await output.writeJson(diagnosis)
      else await output.write(`${describe(diagnosis)}\n`)
      if ('error' in diagnosis.addon) setExitCode(1)
    })

function describe({ version, node, platform, glibc, addon, cpu, cuda }: Diagnosis): string {
  const rows = [
    ['moepp', `${version}, Node ${node}`],
    ['platform', glibc === null ? platform : platform.replace('glibc', `glibc ${glibc}`)],
    ['addon', 'path' in addon ? addon.path : addon.error],
  ]
  if ('reason' in addon) rows.push(['', addon.reason])
  if (cpu) {
    const others = cpu.availableIsas.filter(isa => isa !== cpu.isa)
    rows.push(
      ['processor', cpu.model],
      ['instruction set', others.length > 0 ? `${cpu.isa}; ${others.join(', ')} would run too` : cpu.isa],
      ['threads', `${cpu.threads}: ${cpu.threadsReason}`],
      ['memory', `${formatBytes(cpu.memoryBytes)}, read at ${formatBytes(cpu.readBytesPerSecond)}/s`],
    )
  }
  if (cuda) rows.push(...describeCuda(cuda))
  return formatTable(rows, ['left', 'left'])
}

function describeCuda({ built, runtimeVersion, driver, driverCuda, gpus, used, reason }: CudaDiagnosis) {
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
  ]
}
