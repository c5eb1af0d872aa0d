/** Records, runs and closes a small program: how ops are tested one by one. */
import {
  type KvCacheOptions,
  loadBinding,
  type NativeKvCache,
  type RunResult,
  type Sizes,
} from '../../lib/addon/binding.js'
import { type Buffer, ProgramBuilder } from '../../lib/program/builder.js'
import { gpu } from './devices.js'

export interface OneRun {
  readonly sizes: Partial<Sizes>
  readonly inputs: Readonly<Record<string, Int32Array | Float32Array>>
  readonly capture?: readonly string[]
}

/**
 * Runs `runs`, one after another, on the program that `record` records; its buffers are the
 * outputs.
 */
export async function runProgram(
  record: (p: ProgramBuilder) => readonly Buffer[],
  runs: readonly OneRun[],
  options: { isa?: string; threads?: number; cache?: KvCacheOptions } = {},
  inspect?: (cache: NativeKvCache) => void,
): Promise<RunResult[]> {
  const { Device } = loadBinding()
  const device = gpu
    ? new Device(gpu)
    : new Device('cpu', { threads: options.threads ?? 2, ...(options.isa && { isa: options.isa }) })
  const p = new ProgramBuilder()
  const outputs = record(p)
  const program = await device.compile(p.finish(outputs))
  const cache = options.cache && device.kvCache(options.cache)
  const results: RunResult[] = []
  try {
    for (const { sizes, inputs, capture = [] } of runs) {
      const all = { T: 1, R: 0, B: 1, M: 0, ...sizes }
      results.push(await program.run({ sizes: all, inputs, capture, ...(cache && { cache }) }))
      if (cache) inspect?.(cache)
    }
  } finally {
    await program.close()
    cache?.close()
    device.close()
  }
  return results
}
