#!/usr/bin/env node
// Stands in for node-gyp under prebuildify: takes its command line, and runs CMake alone.
// prebuildify started this in a folder, and then finds the addon in its build/Release. No Python,
// make or headers from the network are needed.
import { join } from 'node:path'
import { buildNative } from './build-native.mjs'
import { toolchain } from './platforms.mjs'

if (process.argv[2] !== 'rebuild') {
  console.error(`moepp: cmake-gyp understands rebuild alone, not ${process.argv[2]}`)
  process.exit(2)
}
const config = process.argv.includes('--debug') ? 'Debug' : 'Release'
const folder = process.cwd()
await buildNative({
  toolchain: toolchain(process.env.MOEPP_PLATFORM),
  workFolder: join(folder, 'cmake'),
  outFolder: join(folder, 'build', config),
})
