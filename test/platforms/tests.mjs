/**
 * TypeScript tests that run on an emulated platform. They read and write files, load the addon and
 * compute. They start no process: an emulated program cannot start another.
 */
export const TESTS = [
  'test/checkpoint/checkpoint.test.ts',
  'test/checkpoint/safetensors.test.ts',
  'test/checkpoint/torch-bin.test.ts',
  'test/e2e/errors.test.ts',
  'test/e2e/packed.test.ts',
  'test/families/toy.test.ts',
  'test/generation/state.test.ts',
  'test/hub/cache.test.ts',
  'test/memory/available.test.ts',
  'test/native/pages.test.ts',
  'test/npm-model.test.ts',
  'test/platforms/files.test.ts',
  'test/tokenizer/golden.test.ts',
]

/** Those that follow symbolic links: Wine makes none that can be followed. */
export const LINK_TESTS = ['test/generation/state.test.ts', 'test/hub/cache.test.ts']

/** Those of files alone: they are alike on all of Linux. */
export const FILE_TESTS = [
  'test/checkpoint/safetensors.test.ts',
  'test/checkpoint/torch-bin.test.ts',
  'test/hub/cache.test.ts',
  'test/platforms/files.test.ts',
]

/** Native tests that take long under QEMU. Their small like run there; under Wine all do. */
export const LONG_NATIVE_TESTS = [
  'attention_of_large_steps',
  'attention_of_latents',
  'grouped_gemm_large',
  'linear_large',
  'linear_stays_within_its_buffers',
  'parallel_program_equals_one_process',
  'route_top_k_of_every_kind',
  'top_logits',
  'weights_load_in_turns',
]
