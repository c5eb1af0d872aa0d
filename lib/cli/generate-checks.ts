/** Combinations of flags that cannot work, or have no effect. */

import type { GenerateOptions, ResolvedOptions } from '../options/generate.js'
import { flagOf, UsageError } from './errors.js'
import type { GenerateFlags } from './generate.js'
import type { Terminal } from './terminal.js'

/**
 * A flag without effect on the output is an error, not a warning. A warning would be read too late,
 * after minutes of work.
 */
export function checkOutputFlags(prompt: string | undefined, flags: GenerateFlags): void {
  const { prompts, out, json, echo } = flags
  const isData = json === true || prompts !== undefined
  for (const name of ['logprobs', 'promptLogprobs', 'routing'] as const) {
    if (flags[name] !== undefined && !isData)
      throw new UsageError(`${flagOf(name)}: plain text cannot show it; add --json`)
  }
  if (echo && isData) throw new UsageError('--echo: only for plain text, not for JSON')
  if (prompts === undefined) {
    if (out !== undefined) throw new UsageError('--out: needs --prompts FILE')
    return
  }
  if (json) throw new UsageError('--json: --prompts always writes JSON, one object a line')
  if (prompt !== undefined)
    throw new UsageError(`a prompt and --prompts exclude each other, got ${JSON.stringify(prompt)}`)
}

/** An error, as in Hugging Face: without sampling all texts would be equal, at n times the work. */
export function checkSequences({ doSample, numReturnSequences }: ResolvedOptions): void {
  if (doSample || numReturnSequences === 1) return
  throw new RangeError(
    `numReturnSequences: expected 1 without sampling, got ${numReturnSequences}; a temperature above 0 turns sampling on`,
  )
}

/**
 * Sampling flags of a greedy call cause a warning, not an error, as in Hugging Face. The text is
 * right, and scripts that pass all their settings keep working.
 */
export function warnIgnored(
  flags: GenerateOptions,
  resolved: ResolvedOptions,
  terminal: Terminal,
): void {
  if (resolved.doSample) return
  const names = (['topK', 'topP', 'minP', 'typicalP'] as const).filter(
    name => flags[name] !== undefined,
  )
  const isTemperatureIgnored = flags.temperature !== undefined && flags.temperature > 0
  const ignored = [...(isTemperatureIgnored ? ['temperature'] : []), ...names].map(flagOf)
  if (ignored.length > 0)
    terminal.warn(`no effect without sampling: ${ignored.join(', ')} (--do-sample turns it on)`)
}
