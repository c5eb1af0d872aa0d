/**
 * The packages as their users get them: the tarballs, installed in an empty folder without scripts.
 * Installation and runs have a PATH with node alone. `npm run test:package` runs this; a checkout
 * prefers its own build to the binary that is tested here.
 */

import type { SpawnOptions } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import t, { type Test } from 'tap'
import { root } from '../support/golden.js'
import { OPTIONS, PROMPT, RESOLUTIONS, writeConsumer } from './consumer.js'
import { readSharedLibrary } from './elf.js'
import { brokenLinks, documentsIn } from './links.js'
import { cleanEnvironment, type Ended, nodeAlone, runNpm, runProcess } from './processes.js'
import { startRegistry } from './registry.js'
import { checkRequirements } from './requirements.js'

const { MOEPP_TARBALL: tarball, MOEPP_MODEL_TARBALL: modelTarball } = process.env
if (tarball === undefined || modelTarball === undefined) throw new Error('run npm run test:package')
const mostBytes = 20e6
const linux = process.platform === 'linux'
const asRoot = process.getuid?.() === 0
const NOBODY = 65534

// Others may look into it: one part runs as another user.
const scratch = realpathSync(mkdtempSync(join(tmpdir(), 'moepp-package-')))
chmodSync(scratch, 0o755)
const consumer = join(scratch, 'consumer')
const model = join(scratch, 'books-7m')
const installed = join(consumer, 'node_modules', 'moepp')
const installedModel = join(consumer, 'node_modules', 'moepp-books-7m')
const environment = { PATH: nodeAlone(join(scratch, 'bin')), HOME: join(scratch, 'home') }
const tool = (path: string) => join(root, 'node_modules', path)

writeConsumer(consumer)
cpSync(join(root, 'models', 'books-7m'), model, { recursive: true })
const { server, url } = await startRegistry()
/** npm and npx find packages there, and keep them here. */
const npmSettings = { npm_config_registry: url, npm_config_cache: join(scratch, 'cache') }
t.teardown(() => {
  server.close()
  rmSync(scratch, { recursive: true, force: true })
})

/** A program of the user's, in the user's folder. */
const runNode = (
  args: string[],
  options: SpawnOptions & { env?: NodeJS.ProcessEnv } = {},
): Promise<Ended> =>
  runProcess(process.execPath, args, { cwd: consumer, env: environment, ...options })

/** Prints the text of the checkout's own build. */
const checkout = `
import { loadModel } from ${JSON.stringify(pathToFileURL(join(root, 'dist', 'index.js')).href)}
const model = await loadModel(${JSON.stringify(model)})
process.stdout.write((await model.generate(${JSON.stringify(PROMPT)}, ${JSON.stringify(OPTIONS)})).text)
await model.close()
`
const { stdout: expected, stderr } = await runNode(['--input-type=module', '-e', checkout])
if (expected.length < 40)
  throw new Error(`the checkout generates ${JSON.stringify(expected)}: ${stderr}`)

function same(t: Test, ended: Ended, what = 'the same text'): void {
  t.same(ended, { code: 0, signal: null, stdout: expected, stderr: '' }, what)
}

await t.test('the tarball', async t => {
  const bytes = statSync(tarball).size
  t.ok(bytes < mostBytes, `${bytes} bytes, at most ${mostBytes}`)
  t.comment(`${bytes} bytes packed`)
})

await t.test(
  'npm install --ignore-scripts in an empty folder, PATH holding node alone',
  async t => {
    await runNpm(
      ['install', tarball, modelTarball, '--ignore-scripts', '--no-audit', '--no-fund'],
      { cwd: consumer, env: { ...environment, ...npmSettings } },
    )
    t.ok(existsSync(join(installed, 'package.json')))
    for (const left of [
      'lib',
      'test',
      'native/test',
      'models',
      'bench/run.mjs',
      'bench/ops',
      'build',
    ])
      t.notOk(existsSync(join(installed, left)), `${left} is not in the package`)
    // npm alone honours "gypfile": false: yarn 1 and pnpm would run node-gyp for a package that has
    // this file.
    t.notOk(existsSync(join(installed, 'binding.gyp')), 'no other package manager builds it')
    for (const text of ['LICENSE', 'THIRD_PARTY_NOTICES.md', 'CHANGELOG.md', 'docs/api.md'])
      t.ok(existsSync(join(installed, text)), `${text} is in the package`)
    const map = JSON.parse(readFileSync(join(installed, 'dist', 'index.js.map'), 'utf8'))
    t.equal(
      map.sourcesContent?.length,
      map.sources.length,
      'source maps hold the sources, which are not in the package',
    )
  },
)

await t.test('the same text as the checkout', async t => {
  same(t, await runNode(['esm.mjs', model]), 'from an ES module')
  same(t, await runNode(['commonjs.cjs', model]), 'from CommonJS')
  same(t, await runNode(['workers.mjs', model]), 'in two worker threads and the main one at once')
  const test = await runNode(['--test', 'generates.test.mjs'], {
    env: { ...environment, MODEL: model, EXPECTED: expected },
  })
  t.equal(test.code, 0, `under node --test: ${test.stdout}`)
  t.match(test.stdout, /# pass 1\n/)
})

await t.test('no link of a document leads out of the package', async t => {
  t.ok(documentsIn(installed).includes('README.md'))
  t.same(brokenLinks(installed, documentsIn(installed)), [])
  t.same(brokenLinks(installedModel, documentsIn(installedModel)), [])
})

await t.test('moepp-books-7m beside it', async t => {
  const source = 'npm:moepp-books-7m'
  for (const file of ['LICENSE', 'NOTICE.md', 'README.md', 'config.json', 'tokenizer.model'])
    t.ok(existsSync(join(installedModel, file)), file)
  t.notOk(existsSync(join(installedModel, 'heldout.txt')), 'no text of others')
  same(t, await runNode(['esm.mjs', source]))
  const cli = join(installed, 'dist', 'cli', 'main.js')
  const demo = await runNode([cli, 'demo', 'The whale'])
  t.match(demo, { code: 0, stdout: /^The whale[\s\S]{40,}\n$/, stderr: /^moepp: .* tokens\/s/ })
  const generated = await runNode([cli, 'generate', '--model', source, '--max-new-tokens', '4'])
  t.match(generated, { code: 0, stdout: /\S/ })

  renameSync(installedModel, `${installedModel}-away`)
  t.same(await runNode([cli, 'demo']), {
    code: 1,
    signal: null,
    stdout: '',
    stderr: 'moepp: the demo needs its model: npm install moepp-books-7m\n',
  })
  const absent = await runNode(['failing.mjs', source])
  t.match(absent.stdout, /^ERR_NOT_FOUND .*npm install moepp-books-7m$/)
  renameSync(`${installedModel}-away`, installedModel)
})

await t.test('moepp serve, without its packages and with them', async t => {
  const serve = ['serve', '--model', 'npm:moepp-books-7m']
  const without = await runNode([join(installed, 'dist', 'cli', 'main.js'), ...serve])
  t.match(without, { code: 1, stdout: '' })
  const [, packages = ''] = /needs further packages: npm install (.+)\n$/.exec(without.stderr) ?? []
  t.match(packages, /fastify@/, without.stderr)
  await runNpm(['install', ...packages.split(' '), '--ignore-scripts', '--no-audit', '--no-fund'], {
    cwd: consumer,
    env: { ...environment, ...npmSettings },
  })
  const body = `
const model = await loadModel('npm:moepp-books-7m')
const server = await serve(model, { modelName: 'books' })
const payload = { prompt: 'The old man', max_tokens: 1 }
const answers = [
  await server.app.inject('/'),
  await server.app.inject('/metrics'),
  await server.app.inject({ method: 'POST', url: '/v1/completions', payload }),
]
console.log(answers.map(({ statusCode }) => statusCode).join(' '))
await server.close()
await model.close()`
  writeFileSync(
    join(consumer, 'server.mjs'),
    `import { loadModel } from 'moepp'\nimport { serve } from 'moepp/server'\n${body}`,
  )
  writeFileSync(
    join(consumer, 'server.cjs'),
    `const { loadModel } = require('moepp')\nconst { serve } = require('moepp/server')\n
async function main() {${body}}\nmain()`,
  )
  for (const file of ['server.mjs', 'server.cjs'])
    t.same(await runNode([file]), { code: 0, signal: null, stdout: '200 200 200\n', stderr: '' })
})

await t.test('moepp routing, without its package and with it', async t => {
  const text = join(consumer, 'text.txt')
  writeFileSync(text, 'The old man went down to the river. '.repeat(20))
  const cli = join(installed, 'dist', 'cli', 'main.js')
  const page = join(consumer, 'report.html')
  const tokens = join(consumer, 'tokens.parquet')
  const report = [cli, 'routing', text, '--model', 'npm:moepp-books-7m', '--out', page]
  const made = await runNode(report)
  t.match(made, { code: 0, stdout: /FFN experts per token/ })
  t.match(readFileSync(page, 'utf8'), /^<!doctype html>/i)
  const without = await runNode([...report, '--tokens', tokens])
  t.match(without, { code: 1, stdout: '' })
  const [, name = ''] = /needs a further package: npm install (\S+)\n$/.exec(without.stderr) ?? []
  t.match(name, /^hyparquet-writer@/, without.stderr)
  await runNpm(['install', name, '--ignore-scripts', '--no-audit', '--no-fund'], {
    cwd: consumer,
    env: { ...environment, ...npmSettings },
  })
  t.equal((await runNode([...report, '--tokens', tokens])).code, 0)
  t.equal(readFileSync(tokens).subarray(-4).toString(), 'PAR1')
})

await t.test('two copies in one process', async t => {
  const other = join(scratch, 'other', 'node_modules')
  cpSync(join(consumer, 'node_modules'), other, { recursive: true })
  const entries = [installed, join(other, 'moepp')].map(
    copy => pathToFileURL(join(copy, 'dist', 'index.js')).href,
  )
  same(t, await runNode(['two-copies.mjs', model, ...entries]))
})

for (const resolution of Object.keys(RESOLUTIONS)) {
  await t.test(`TypeScript, moduleResolution ${resolution}`, async t => {
    const compiled = await runNode([
      tool('typescript/bin/tsc'),
      '-p',
      `tsconfig.${resolution}.json`,
    ])
    t.same(compiled, { code: 0, signal: null, stdout: '', stderr: '' }, 'compiles')
    same(t, await runNode([join(`out-${resolution}`, 'app.js'), model]), 'runs')
    const commonJs = join(`out-${resolution}`, 'app-commonjs.cjs')
    if (resolution !== 'bundler') same(t, await runNode([commonJs, model]), 'runs, as CommonJS')
  })
}

for (const [format, file] of [
  ['esm', 'bundle.mjs'],
  ['cjs', 'bundle.cjs'],
] as const) {
  await t.test(`bundled by esbuild as ${format}, the package external`, async t => {
    const source = format === 'esm' ? 'esm.mjs' : 'commonjs.cjs'
    const options = ['--bundle', '--platform=node', '--external:moepp', '--log-level=warning']
    const esbuild = tool('esbuild/bin/esbuild')
    const bundled = await runNode([
      esbuild,
      source,
      ...options,
      `--format=${format}`,
      `--outfile=${file}`,
    ])
    t.same(bundled, { code: 0, signal: null, stdout: '', stderr: '' }, 'bundles')
    same(t, await runNode([file, model]), 'runs')
  })
}

await t.test('publint and arethetypeswrong find nothing', async t => {
  const publint = await runNode([tool('publint/src/cli.js'), 'run', tarball, '--strict'])
  t.equal(publint.code, 0, publint.stdout + publint.stderr)
  t.match(publint.stdout, /All good/)
  const attw = await runNode([tool('@arethetypeswrong/cli/dist/index.js'), tarball, '-f', 'ascii'])
  t.equal(attw.code, 0, attw.stdout + attw.stderr)
})

await t.test('moepp doctor', async t => {
  const cli =
    process.platform === 'win32'
      ? join(installed, 'dist/cli/main.js')
      : join(consumer, 'node_modules/.bin/moepp')
  const { code, stdout, stderr: errors } = await runNode([cli, 'doctor', '--json'])
  t.equal(code, 0, errors)
  const { addon, version } = JSON.parse(stdout)
  t.equal(addon.origin, 'prebuild')
  t.ok(addon.path.startsWith(join(installed, 'prebuilds')), addon.path)
  t.equal(version, JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).version)
  if (process.platform === 'win32') return
  const direct = await runProcess(cli, ['--version'], { cwd: consumer, env: environment })
  t.equal(direct.code, 0, 'npm made the command executable')
})

const prebuilds = join(installed, 'prebuilds', `${process.platform}-${process.arch}`)
const binary = () => join(prebuilds, readdirSync(prebuilds).find(file => file.endsWith('.node'))!)

await t.test('what the binary needs', { skip: !linux && 'ELF is a format of Linux' }, async t => {
  const library = readSharedLibrary(readFileSync(binary()))
  checkRequirements(t, library)
  t.ok(library.stripped, 'stripped')
  t.match(binary(), /moepp\.(glibc|musl)\.node$/, 'tagged with its C library')
})

await t.test(
  'another user, and a node_modules that nobody may write to',
  { skip: process.platform === 'win32' && 'no users here' },
  async t => {
    const everything = (change: (mode: number) => number) => {
      for (const entry of readdirSync(join(consumer, 'node_modules'), {
        recursive: true,
        withFileTypes: true,
      })) {
        const path = join(entry.parentPath, entry.name)
        if (!entry.isSymbolicLink()) chmodSync(path, change(statSync(path).mode))
      }
    }
    everything(mode => (mode & ~0o222) | 0o444)
    const user = asRoot ? { uid: NOBODY, gid: NOBODY } : {}
    const env = { ...environment, HOME: '/nonexistent' }
    same(t, await runNode(['esm.mjs', model], { ...user, env }))
    everything(mode => mode | 0o200)
  },
)

await t.test('a binary that cannot be loaded', async t => {
  const path = binary()
  const whole = readFileSync(path)
  const recorded = readFileSync(`${path}.sha256`, 'utf8')
  const build = `To build it here: node ${join(installed, 'scripts', 'build-native.mjs')}`
  const failure = async () => {
    const { code, signal, stdout, stderr: errors } = await runNode(['failing.mjs', model])
    t.same({ code, signal, errors }, { code: 0, signal: null, errors: '' }, 'an error, no crash')
    t.match(stdout, /^ERR_NO_BINDING the native addon for /)
    t.ok(stdout.includes(build), stdout)
    return stdout
  }
  const doctor = await runNode([join(installed, 'dist/cli/main.js'), 'doctor'])
  t.equal(doctor.code, 0)

  writeFileSync(path, whole.subarray(0, whole.length / 2))
  t.match(await failure(), /is damaged: its SHA-256 is .* install it again/, 'cut off')
  const flipped = Buffer.from(whole)
  flipped[flipped.length >> 1]! ^= 1
  writeFileSync(path, flipped)
  t.match(await failure(), /is damaged/, 'one bit changed')
  const broken = await runNode([join(installed, 'dist/cli/main.js'), 'doctor'])
  t.equal(broken.code, 1)
  t.match(broken.stdout, /addon .*is damaged/)

  if (linux) {
    const foreign = Buffer.from(whole)
    const [machine, name] = process.arch === 'arm64' ? [0x3e, 'x64'] : [0xb7, 'arm64']
    foreign.writeUInt16LE(machine, 18)
    writeFileSync(path, foreign)
    writeFileSync(`${path}.sha256`, createHash('sha256').update(foreign).digest('hex'))
    t.match(await failure(), `It is a file for linux-${name}, and this is linux-${process.arch}.`)
  }
  writeFileSync(path, whole)
  writeFileSync(`${path}.sha256`, recorded)

  renameSync(prebuilds, join(installed, 'prebuilds', 'sunos-x64'))
  t.match(await failure(), /no binary for this platform; this package has .*sunos-x64\/moepp/)
  renameSync(join(installed, 'prebuilds', 'sunos-x64'), prebuilds)
  same(t, await runNode(['esm.mjs', model]), 'and whole again')
})

await t.test('built from source, in the installed package', async t => {
  const script = join(installed, 'scripts', 'build-native.mjs')
  const bare = await runNode([script])
  t.equal(bare.code, 1)
  t.match(
    bare.stderr,
    /building from source needs CMake 3\.24 or newer, a C\+\+17 compiler/,
    'says what is missing',
  )
  rmSync(join(installed, 'prebuilds'), { recursive: true })
  const env = { ...cleanEnvironment(), ...npmSettings, MOEPP_CUDA: 'OFF' }
  const built = await runProcess(process.execPath, [script], { cwd: consumer, env })
  t.equal(built.code, 0, built.stdout + built.stderr)
  t.match(built.stdout + built.stderr, /moepp: a CPU build/)
  same(t, await runNode(['esm.mjs', model]))
  const { stdout } = await runNode([join(installed, 'dist/cli/main.js'), 'doctor', '--json'])
  t.equal(JSON.parse(stdout).addon.origin, 'local build')
})
