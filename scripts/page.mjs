// Bundles the pages: the server's, lib/server/page/, to three files, and the routing report's,
// lib/routing/page/, to one.
//
//   node scripts/page.mjs FOLDER     the folder of the compiled lib/
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import { root } from './build-native.mjs'

const sourceOf = room => join(root, 'lib', room, 'page')

/** All files of the pages, each with `path` in `folder`, and `contents`. */
export async function pageFiles(folder) {
  const files = await Promise.all([serverPage(folder), reportTemplate(folder)])
  return files.flat()
}

async function bundle(folder, entryPoints) {
  const { outputFiles } = await build({
    entryPoints,
    outdir: folder,
    loader: { '.html': 'copy' },
    bundle: true,
    minify: true,
    format: 'esm',
    target: 'es2023',
    tsconfigRaw: {},
    charset: 'utf8',
    legalComments: 'none',
    write: false,
  })
  return outputFiles
}

function serverPage(folder) {
  const source = sourceOf('server')
  return bundle(join(folder, 'server', 'page'), [
    { in: join(source, 'index.html'), out: 'index' },
    { in: join(source, 'page.css'), out: 'page' },
    { in: join(source, 'main.ts'), out: 'page' },
  ])
}

/** The report's page without data: style and script stand in it, and it allows no others. */
async function reportTemplate(folder) {
  const source = sourceOf('routing')
  const made = resolve(folder, 'routing', 'page')
  const parts = [
    { in: join(source, 'page.css'), out: 'page' },
    { in: join(source, 'main.ts'), out: 'page' },
  ]
  const texts = new Map((await bundle(made, parts)).map(({ path, text }) => [path, text]))
  const style = texts.get(join(made, 'page.css'))
  // The end of the element must not stand in it.
  const script = texts.get(join(made, 'page.js')).replaceAll('</script', '<\\/script')
  const policy = [
    "default-src 'none'",
    `script-src ${hashOf(script)}`,
    `style-src ${hashOf(style)}`,
    'img-src data:',
    "base-uri 'none'",
    "form-action 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ].join('; ')
  const html = readFileSync(join(source, 'index.html'), 'utf8')
    .replace('<!--policy-->', () => policy)
    .replace('<link rel="stylesheet" href="page.css">', () => `<style>${style}</style>`)
    .replace(' src="page.js">', () => `>${script}`)
  return [{ path: join(made, 'index.html'), contents: Buffer.from(html) }]
}

const hashOf = text => `'sha256-${createHash('sha256').update(text).digest('base64')}'`

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [, , folder] = process.argv
  for (const { path, contents } of await pageFiles(folder)) {
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, contents)
  }
}
