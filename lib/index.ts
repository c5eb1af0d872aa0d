/** moepp: MoE++ language models on CPUs and NVIDIA GPUs. */
export type { ModelConfig } from './config.js'
export { MoeppError, type MoeppErrorCode } from './errors.js'
export type { Model } from './generation/model.js'
export { loadModel } from './load.js'
export type { GenerateOptions, LoadOptions, LoadProgress } from './options.js'
export { loadTokenizer, type Tokenizer } from './tokenizer/tokenizer.js'
