/**
 * moepp: mixtures of experts with zero-computation experts, on CPUs and NVIDIA GPUs.
 *
 * @module
 */
/// <reference lib="esnext.disposable" preserve="true" />

export type { ModelDevice } from './addon/device.js'
export type { ChatOptions, TemplateOptions, ToolChoice } from './chat/chat-options.js'
export type { ModelStats, StepSizes } from './engine/stats.js'
export { MoeppError, type MoeppErrorCode } from './errors.js'
export type { ModelConfig } from './families/family.js'
export type { ForwardOptions, ScoreOptions } from './generation/call-options.js'
export type { AssistantMessage, ChatChunk, ChatResult } from './generation/chat-results.js'
export type { CallTrace, LoadTrace, TracedResult } from './generation/diagnostics.js'
export type { ModelRank } from './generation/membership.js'
export type { Model } from './generation/model.js'
export type { Prompt, TokenIds } from './generation/prompt.js'
export type {
  ChunkRouting,
  ExpertCounts,
  FinishReason,
  ForwardResult,
  GenerateChunk,
  GenerateResult,
  LayerRouting,
  Routing,
  ScoreResult,
  Timings,
  Usage,
} from './generation/results.js'
export type {
  LoadedState,
  LoadStateOptions,
  SavedState,
  SaveStateOptions,
} from './generation/state.js'
export type { GenerationStream } from './generation/stream.js'
export type { DownloadProgress } from './hub/repository.js'
export type { RopeScaling, YarnScaling } from './layers/rope.js'
export { estimateMemory, loadModel } from './load/load.js'
export type { MemoryEstimate } from './load/memory-estimate.js'
export type { CallLoad } from './options/admission.js'
export type {
  GenerateOptions,
  HeldType,
  Isa,
  LoadOptions,
  LoadProgress,
  MatrixType,
  ReadProgress,
} from './options/generate.js'
export type { Grammar } from './options/grammar.js'
export type { ExpertKind } from './program/expert-kinds.js'
export * as routing from './routing/index.js'
export type { LogitsHook } from './sampling/logits-hook.js'
export type { Speculation } from './sampling/prompt-lookup.js'
export type { TokenLogprob, TokenLogprobs } from './sampling/sampler.js'
export type { ChatTemplateOptions } from './template/chat-template.js'
export type { ChatMessage, ChatTool, ToolCall } from './template/messages.js'
export type { DType } from './tensor/tensor-ref.js'
export type {
  DecodeOptions,
  EncodeAsyncOptions,
  EncodeOptions,
} from './tokenizer/options.js'
export type { TextStream, TextStreamOptions } from './tokenizer/text-stream.js'
export type { SpecialToken } from './tokenizer/token-ids.js'
export { loadTokenizer, type Tokenizer } from './tokenizer/tokenizer.js'
