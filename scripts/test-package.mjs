// Tests the packages as their users get them: packs them, installs the tarballs in an empty folder,
// and runs them there.
//
//   node scripts/test-package.mjs [tarball of moepp, tarball of moepp-books-7m]
//
// Without tarballs: makes the prebuild for this platform (a CPU build unless MOEPP_CUDA is ON or
// AUTO) and packs the checkout.
import { join } from 'node:path'
import { root, run } from './build-native.mjs'
import { npmProgram, tarballsToTest } from './pack.mjs'

const { moepp, model } = tarballsToTest(process.argv.slice(2))
const env = {
  ...process.env,
  MOEPP_TARBALL: moepp,
  MOEPP_MODEL_TARBALL: model,
  MOEPP_NPM: npmProgram(),
}
run(
  process.execPath,
  [join(root, 'scripts', 'run-tests.mjs'), join('test', 'package', 'installed-package.ts')],
  { env },
)
