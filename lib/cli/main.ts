#!/usr/bin/env node
// The version of Node is checked before anything else is imported. This file uses plain old syntax:
// an old Node must be able to read it.
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
if (major < 20 || major === 21 || (major === 20 && minor < 19) || (major === 22 && minor < 12)) {
  console.error(
    `moepp: Node ${process.versions.node} is too old. moepp needs Node 20.19 or 22.12, or a newer one.`,
  )
  process.exitCode = 1
} else {
  import('./run.js')
    .then(({ run }) => run(process.argv.slice(2)))
    .then(code => {
      // Not process.exit: it would lose text that is still on its way to standard output.
      process.exitCode = code
    })
}
