// Bundles the server's page, lib/server/page/, to three files.
//
//   node scripts/page.mjs FOLDER
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import { root } from './build-native.mjs'

const source = join(root, 'lib', 'server', 'page')

/** index.html, page.css and page.js, each with `path` in `folder`, and `contents`. */
export async function pageFiles(folder) {
  const { outputFiles } = await build({
    entryPoints: [
      { in: join(source, 'index.html'), out: 'index' },
      { in: join(source, 'page.css'), out: 'page' },
      { in: join(source, 'main.ts'), out: 'page' },
    ],
    outdir: folder,
    loader: { '.html': 'copy' },
    bundle: true,
    minify: true,
    format: 'esm',
    target: 'es2023',
    tsconfigRaw: {},
    charset: 'utf8',
    write: false,
  })
  return outputFiles
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [, , folder] = process.argv
  mkdirSync(folder, { recursive: true })
  for (const { path, contents } of await pageFiles(folder)) writeFileSync(path, contents)
}
