/** Workloads: the names of llama-bench's conventions, and their meaning. */

export interface Workload {
  /** As it was written: `pp512`, `tg128@32x4`. */
  readonly name: string
  readonly kind: 'prefill' | 'decode'
  /** Of each sequence: the prompt's, or the generated ones. */
  readonly tokens: number
  /** Tokens of each sequence before the measured ones. */
  readonly context: number
  /** Sequences computed together. */
  readonly batch: number
}

/** Prompts alone, and generation after a short and a long context for one and several sequences. */
export const DEFAULT_WORKLOADS =
  'pp128,pp512,pp2048,tg128@32,tg128@512,tg128@32x4,tg128@512x4,tg128@32x16,tg128@512x16'

/** More would be more tokens than any KV cache holds. */
const MOST_TOKENS = 1 << 20

/**
 * Workloads by commas. `pp512` is a prompt of 512 tokens, `tg128@32` 128 tokens one at a time after
 * 32. Either with `x4` is for four sequences at once.
 * @throws RangeError that names the fault
 */
export function parseWorkloads(text: string): Workload[] {
  return text.split(',').map(part => parseWorkload(part.trim()))
}

function parseWorkload(name: string): Workload {
  const [, kind, tokens, context, batch] =
    /^(pp|tg)(\d{1,7})(?:@(\d{1,7}))?(?:x(\d{1,4}))?$/.exec(name) ?? []
  const workload: Workload = {
    name,
    kind: kind === 'pp' ? 'prefill' : 'decode',
    tokens: Number(tokens),
    // Something must come before a generated token: the beginning of a text.
    context: Number(context ?? (kind === 'tg' ? 1 : 0)),
    batch: Number(batch ?? 1),
  }
  const { tokens: T, batch: B } = workload
  const tooFew = T < 1 || B < 1 || (kind === 'tg' && workload.context < 1)
  if (kind === undefined || tooFew || (kind === 'pp' && context !== undefined)) {
    throw new RangeError(
      `tests: expected names like pp512, pp128x4, tg128@32 or tg128@512x16, got "${name}"`,
    )
  }
  if (sequenceTokens(workload) * B > MOST_TOKENS) {
    throw new RangeError(`tests: ${name} has more than ${MOST_TOKENS} tokens`)
  }
  return workload
}

/** Tokens that a sequence has in the end. */
export function sequenceTokens({ tokens, context }: Workload): number {
  return context + tokens
}
