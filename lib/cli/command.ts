/** What every command gets from the command line's frame. */

import type { Command } from 'commander'
import { Interrupt } from './interrupt.js'
import type { Output } from './output.js'
import { Progress } from './progress.js'

/** Makes a command that writes to `output` and may set another exit code than 0. */
export type CreateCommand = (output: Output, setExitCode: (code: number) => void) => Command

export interface Work {
  readonly progress: Progress
  readonly interrupt: Interrupt
}

/**
 * Runs a command's work with a progress bar and Ctrl-C. What fails after Ctrl-C or because nobody
 * reads the output any more is not an error, but the end that was asked for.
 */
export async function runWork(
  output: Output,
  setExitCode: (code: number) => void,
  work: (tools: Work) => Promise<void>,
): Promise<void> {
  using progress = new Progress()
  using interrupt = new Interrupt()
  try {
    await work({ progress, interrupt })
  } catch (error) {
    if (!interrupt.signal.aborted && !output.closed.aborted) throw error
    progress.stop()
    if (interrupt.signal.aborted) process.stderr.write('moepp: interrupted\n')
  } finally {
    if (interrupt.exitCode !== undefined) setExitCode(interrupt.exitCode)
  }
}
