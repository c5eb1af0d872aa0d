/** The context that each command receives from the command line. */

import type { Command } from 'commander'
import { Interrupt } from './interrupt.js'
import { Progress } from './progress.js'
import type { Terminal } from './terminal.js'

/** Makes a command that uses `terminal` and may set another exit code than 0. */
export type CreateCommand = (terminal: Terminal, setExitCode: (code: number) => void) => Command

export interface Work {
  readonly progress: Progress
  readonly interrupt: Interrupt
}

/**
 * Runs a command's work with a progress bar and Ctrl-C. After Ctrl-C, or once standard output takes
 * no more, an error is no error: the work was asked to end.
 */
export async function runWork(
  terminal: Terminal,
  setExitCode: (code: number) => void,
  work: (tools: Work) => Promise<void>,
): Promise<void> {
  using progress = new Progress(terminal)
  using interrupt = new Interrupt()
  try {
    await work({ progress, interrupt })
  } catch (error) {
    if (!interrupt.signal.aborted && !terminal.closed.aborted) throw error
    progress.stop()
    if (interrupt.signal.aborted) terminal.note('interrupted')
  } finally {
    if (interrupt.exitCode !== undefined) setExitCode(interrupt.exitCode)
  }
}
