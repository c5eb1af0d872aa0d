// esbuild, webpack, Vite and programs of one file: moepp external, and bundled whole.
import { chmodSync, cpSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  addonFile,
  appFolder,
  checkWhole,
  otherFolder,
  printsText,
  Skip,
  succeed,
} from './process.mjs'
import { bun } from './runtimes.mjs'

const node = process.execPath
const packageFile = ({ project }, file) => join(project, 'node_modules', file)

export const bundlers = [
  ['esbuild, external', context => bundleByEsbuild(context, 'esm', ['--external:moepp'])],
  ['esbuild, bundled whole, ES module', context => bundleByEsbuild(context, 'esm', [])],
  ['esbuild, bundled whole, CommonJS', context => bundleByEsbuild(context, 'cjs', [])],
  ['webpack, external', webpackExternal],
  ['webpack, bundled whole', webpackWhole],
  ['Vite SSR, external', viteExternal],
  ['Vite SSR, bundled whole', viteWhole],
  ['Bun, one executable', bunExecutable],
  ['Node, one executable', nodeExecutable],
]

const esbuild = context => [node, packageFile(context, 'esbuild/bin/esbuild')]

async function bundleByEsbuild(context, format, external) {
  const cjs = format === 'cjs'
  const folder = appFolder(context, 'esbuild', ['node', 'executable'])
  const out = external.length > 0 ? folder : otherFolder(context, `esbuild-${format}`)
  const bundle = join(out, cjs ? 'bundle.cjs' : 'bundle.mjs')
  const options = ['--bundle', '--platform=node', `--format=${format}`, '--log-level=error']
  // CommonJS has no top-level await.
  const source = cjs ? 'main.mjs' : 'text.mjs'
  writeFileSync(join(folder, 'main.mjs'), WITHOUT_AWAIT)
  succeed([...esbuild(context), source, ...options, ...external, `--outfile=${bundle}`], folder)
  if (external.length > 0) printsText(context, [node, bundle], out)
  else await checkWhole(context, [node, bundle], out)
}

const WITHOUT_AWAIT = `
import { loadModel } from 'moepp'
async function main() {
  const model = await loadModel('npm:moepp-books-7m')
  const options = { maxNewTokens: 48, temperature: 0.8, seed: 7 }
  process.stdout.write((await model.generate('The old man', options)).text)
  await model.close()
}
main()
`

const BUILD = `
import webpack from 'webpack'
import config from './webpack.config.mjs'
webpack({ context: import.meta.dirname ?? process.cwd(), ...config }, (error, stats) => {
  if (error) throw error
  const { errors, warnings } = stats.toJson()
  for (const { message } of [...errors, ...warnings]) console.error(message)
  process.exitCode = errors.length + warnings.length > 0 ? 1 : 0
})
`

function buildByWebpack(context, name, config) {
  const folder = appFolder(context, name, ['node', 'webpack'])
  if (config !== undefined) writeFileSync(join(folder, 'webpack.config.mjs'), config)
  writeFileSync(join(folder, 'build.mjs'), BUILD)
  succeed([node, 'build.mjs'], folder)
  return folder
}

function webpackExternal(context) {
  const folder = buildByWebpack(context, 'webpack')
  printsText(context, [node, 'dist/text.cjs'], folder)
}

/** Not minimised, which takes most of the time. */
const WEBPACK_WHOLE = `export default {
  target: 'node',
  mode: 'production',
  entry: './text.mjs',
  output: { filename: 'text.cjs' },
  optimization: { minimize: false },
}`

async function webpackWhole(context) {
  const folder = buildByWebpack(context, 'webpack-whole', WEBPACK_WHOLE)
  // webpack writes the path that the sources had: it runs while moepp is still there.
  printsText(context, [node, 'dist/text.cjs'], folder)
  const moved = otherFolder(context, 'webpack-moved')
  cpSync(join(folder, 'dist'), moved, { recursive: true })
  await checkWhole(context, [node, 'text.cjs'], moved)
}

function buildByVite(context, name, config) {
  const folder = appFolder(context, name, ['node', 'vite'])
  if (config !== undefined) writeFileSync(join(folder, 'vite.config.mjs'), config)
  succeed([node, packageFile(context, 'vite/bin/vite.js'), 'build', '--logLevel=error'], folder)
  return folder
}

function viteExternal(context) {
  printsText(context, [node, 'dist/text.js'], buildByVite(context, 'vite'))
}

async function viteWhole(context) {
  const config = "export default { build: { ssr: 'text.mjs' }, ssr: { noExternal: true } }"
  const folder = buildByVite(context, 'vite-whole', config)
  const moved = otherFolder(context, 'vite-moved')
  cpSync(join(folder, 'dist'), moved, { recursive: true })
  await checkWhole(context, [node, 'text.js'], moved)
}

/** A folder with the addon and the model, as they lie beside an executable. */
function besideExecutable(context, name) {
  const folder = join(context.scratch, name)
  mkdirSync(folder, { recursive: true })
  cpSync(addonFile(context), join(folder, 'moepp.node'))
  const model = packageFile(context, 'moepp-books-7m')
  cpSync(model, join(folder, 'books-7m'), { recursive: true })
  return folder
}

function bunExecutable(context) {
  const folder = appFolder(context, 'bun-executable', ['executable'])
  const out = besideExecutable(context, 'bun-out')
  const file = join(out, 'app')
  succeed([bun(context), 'build', '--compile', 'app.mjs', '--outfile', file], folder)
  printsText(context, [file], out)
}

const FUSE = 'NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2'

/** The steps that docs/frameworks.md shows. */
function nodeExecutable(context) {
  if (process.config.variables.node_shared === true)
    throw new Skip("this Node is a small program over a shared library: node's own builds are not")
  if (process.platform !== 'linux') throw new Skip('signed programs need further steps')
  const folder = appFolder(context, 'node-executable', ['executable'])
  const out = besideExecutable(context, 'node-out')
  const file = join(out, 'app')
  const bundle = ['app.mjs', '--bundle', '--platform=node', '--outfile=app.cjs']
  const url = '--define:import.meta.url=undefined'
  succeed([...esbuild(context), ...bundle, url, '--log-level=error'], folder)
  succeed([node, '--experimental-sea-config', 'sea-config.json'], folder)
  cpSync(node, file)
  chmodSync(file, 0o755)
  const postject = packageFile(context, 'postject/dist/cli.js')
  const inject = [file, 'NODE_SEA_BLOB', 'app.blob', '--sentinel-fuse', FUSE]
  succeed([node, postject, ...inject], folder)
  printsText(context, [file], out)
}
