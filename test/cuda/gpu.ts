/**
 * The device of this folder's tests: a GPU under `npm run test:gpu` (MOEPP_TEST_GPU=1), else the
 * emulated one, which is an addon of its own. Import it before anything of lib/.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { root } from '../support/golden.js'

export const onGpu = process.env.MOEPP_TEST_GPU === '1'

/** The addon whose CUDA device runs on an emulated GPU. */
export const emulatedAddon = join(root, 'build/cmake/Release/moepp_emulated.node')

if (!onGpu) {
  if (!existsSync(emulatedAddon)) throw new Error(`${emulatedAddon} is missing: npm test builds it`)
  process.env.MOEPP_BINDING = emulatedAddon
}
process.env.MOEPP_TEST_DEVICE = 'cuda:0'
