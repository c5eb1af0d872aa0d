/** Kinds of experts, by their number in native/ops/expert_runs.h. */
export const EXPERT_KINDS = ['ffn', 'constant', 'copy', 'zero'] as const

export type ExpertKind = (typeof EXPERT_KINDS)[number]
