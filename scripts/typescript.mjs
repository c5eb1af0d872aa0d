// Compiles the TypeScript of lib/ and test/ to build/tests/, a file for a file, and the
// pages, in half a second. Types are stripped, not checked; `npm run lint` checks them.
//
//   node scripts/typescript.mjs FILE.ts [arguments]     compiles, and runs a file of test/
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { root } from './build-native.mjs'

const out = join(root, 'build', 'tests')

function sourcesOf(folder) {
  return readdirSync(join(root, folder), { recursive: true })
    .filter(file => /(?<!\.d)\.ts$/.test(file) && !/^frameworks[\\/]/.test(file))
    .map(file => join(root, folder, file))
}

/** A file that is current is left alone: another process may be reading it. */
function write({ path, contents }) {
  try {
    if (readFileSync(path).equals(contents)) return
  } catch {
    mkdirSync(dirname(path), { recursive: true })
  }
  writeFileSync(path, contents)
}

/** Compiles all of lib/ and test/. */
export async function compileTests() {
  // Here, because a checkout without packages loads this file, too.
  const { build } = await import('esbuild')
  const { pageFiles } = await import('./page.mjs')
  const { outputFiles: modules } = await build({
    entryPoints: [...sourcesOf('lib'), ...sourcesOf('test')],
    outbase: root,
    outdir: out,
    format: 'esm',
    platform: 'node',
    target: 'es2023',
    sourcemap: 'linked',
    sourcesContent: false,
    write: false,
  })
  const outputFiles = [...modules, ...(await pageFiles(join(out, 'lib')))]
  for (const file of outputFiles) write(file)
  // A source that is gone would still be found compiled.
  const made = new Set(outputFiles.map(({ path }) => path))
  for (const file of readdirSync(out, { recursive: true }).map(name => join(out, name)))
    if (/\.js(\.map)?$/.test(file) && !made.has(file)) rmSync(file)
}

/** The compiled file of a source. */
export function compiled(source) {
  return join(out, relative(root, resolve(source)).replace(/\.ts$/, '.js'))
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await compileTests()
  process.argv.splice(1, 1)
  process.setSourceMapsEnabled(true)
  await import(pathToFileURL(compiled(process.argv[1])).href)
}
