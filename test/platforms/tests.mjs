/**
 * TypeScript tests that run on an emulated platform. They read and write files, load the addon and
 * compute. They start no process: an emulated program cannot start another.
 */
export const TESTS = [
  'test/checkpoint/checkpoint.test.ts',
  'test/checkpoint/packed.test.ts',
  'test/checkpoint/safetensors.test.ts',
  'test/checkpoint/torch-bin.test.ts',
  'test/e2e/errors.test.ts',
  'test/e2e/packed.test.ts',
  'test/families/ngrams.test.ts',
  'test/families/toy.test.ts',
  'test/generation/books-7m.test.ts',
  'test/generation/state.test.ts',
  'test/hub/cache.test.ts',
  'test/hub/hub.test.ts',
  'test/memory/available.test.ts',
  'test/native/pages.test.ts',
  'test/npm-model.test.ts',
  'test/platforms/files.test.ts',
  'test/reference/latent-models.test.ts',
  'test/source.test.ts',
  'test/tokenizer/golden.test.ts',
]
