/** A model on a device of one rank, which runs its steps together with those of other ranks. */
import type { NativeGroup } from '../addon/binding.js'
import type { Step, StepResult } from '../engine/runner.js'
import { DeviceRunner, type RunnerParts } from '../model/runner.js'
import { Lockstep } from './lockstep.js'

/** The part of a rank without tokens. */
const NO_TOKENS: Step = {
  tokens: new Int32Array(),
  positions: new Int32Array(),
  preceding: new Int32Array(),
  sequenceStarts: new Int32Array(1),
  pageTable: new Int32Array(),
  keyVariants: new Int32Array(),
  copies: new Int32Array(),
  logitRows: new Int32Array(),
  wanted: { whole: false, top: false, logSumExp: false },
  capture: [],
}

export class GroupRunner extends DeviceRunner {
  readonly lockstep: Lockstep

  constructor(parts: RunnerParts, group: NativeGroup, deadlineMs: number) {
    super(parts)
    this.lockstep = new Lockstep(
      group,
      deadlineMs,
      (step = NO_TOKENS, mail, onLetters) =>
        this.compute(step, (program, options) => program.exchangeAndRun(options, mail, onLetters)),
      step => this.tokensOf(step),
    )
  }

  /** Nothing cancels it: other ranks wait for its rows. */
  override run(step: Step): Promise<StepResult> {
    return this.lockstep.run(step)
  }

  wakes(): Promise<void> {
    return this.lockstep.wakes()
  }

  rests(): void {
    this.lockstep.rests()
  }

  override async close(): Promise<void> {
    await this.lockstep.close()
    await super.close()
  }
}
