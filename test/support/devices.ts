/** The devices that a test of models runs on. */
import { loadBinding } from '../../lib/addon/binding.js'

/** The CUDA device that the tests of test/cuda/ run on. */
export const gpu = process.env.MOEPP_TEST_DEVICE

/** Every instruction set of this machine, the best first; or the CUDA device alone. */
export function devices(): string[] {
  return gpu ? [gpu] : [...loadBinding().processor().isas]
}
