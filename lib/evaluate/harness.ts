/** The program whose tasks, prompts and formulas are followed here. */

/** lm-evaluation-harness of EleutherAI, as its sources were read. */
export const HARNESS = {
  name: 'lm-evaluation-harness',
  version: '0.4.13.dev0',
  commit: '4e7e0d47f33bc71070c1d38394bafbb52b117163',
} as const
