/**
 * The examples of the documents and of the comments. They type-check against the package's types.
 * Every public name and method has one. The README's prints the output that it shows.
 */
import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { transformSync } from 'esbuild'
import t from 'tap'
import ts from 'typescript'
import { BOOKS } from '../cli/run-cli.js'
import { root } from '../support/golden.js'

interface Example {
  /** `README.md:21`. */
  readonly place: string
  readonly code: string
}

/** The blocks of a text that are marked as TypeScript. */
function examplesOf(text: string, file: string, firstLine = 1): Example[] {
  return [...text.matchAll(/^```ts\n([\s\S]*?)^```$/gm)].map(({ index, 1: code }) => ({
    place: `${file}:${firstLine + text.slice(0, index).split('\n').length - 1}`,
    code: code!,
  }))
}

/** The same of the comments of a source. */
function examplesOfComments(source: string, file: string): Example[] {
  return [...source.matchAll(/^ *\/\*\*[\s\S]*?\*\//gm)].flatMap(({ index, 0: comment }) => {
    const text = comment.replaceAll(/^ *\* ?/gm, '')
    return examplesOf(text, file, source.slice(0, index).split('\n').length)
  })
}

function sources(folder: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter(name => name.endsWith('.ts'))
    .map(name => join(folder, name))
}

const read = (path: string) => readFileSync(join(root, path), 'utf8')
const guides = readdirSync(join(root, 'docs'))
  .filter(name => name.endsWith('.md') && !name.startsWith('api'))
  .map(name => join('docs', name))
const examples = [
  ...['README.md', ...guides].flatMap(file => examplesOf(read(file), file)),
  ...sources('lib').flatMap(file => examplesOfComments(read(file), file)),
]

// Inside the checkout, so that 'moepp' is the checkout itself.
const folder = join(root, 'build', 'doc-examples')
rmSync(folder, { recursive: true, force: true })
mkdirSync(folder, { recursive: true })

function checkTypes(examples: readonly Example[]): string[] {
  const files = examples.map(({ code }, i) => {
    const path = join(folder, `${i}.ts`)
    writeFileSync(path, `${code}\nexport {}\n`)
    return path
  })
  const { options } = ts.parseJsonConfigFileContent(
    { compilerOptions: { ...readOptions(), noEmit: true, rootDir: folder, types: ['node'] } },
    ts.sys,
    root,
  )
  const diagnostics = ts.getPreEmitDiagnostics(ts.createProgram(files, options))
  return diagnostics.map(({ file, start, messageText }) => {
    const text = ts.flattenDiagnosticMessageText(messageText, ' ')
    const at = files.indexOf(file?.fileName ?? '')
    const line =
      file && start !== undefined ? file.getLineAndCharacterOfPosition(start).line + 1 : 0
    return `${examples[at]?.place ?? file?.fileName}, line ${line}: ${text}`
  })
}

function readOptions(): object {
  const path = join(root, 'tsconfig.json')
  return ts.readConfigFile(path, ts.sys.readFile).config.compilerOptions
}

t.test('examples compile', async t => {
  t.ok(examples.length > 20, `${examples.length} examples`)
  t.same(checkTypes(examples), [])
})

t.test('a wrong example is noticed, with its place', async t => {
  const text = "Text.\n\n```ts\nimport { loadModel } from 'moepp'\n\nawait loadModel(1)\n```\n"
  const comment = `/** One. */\n\n/**\n${text.replaceAll(/^/gm, ' * ')}\n */\nexport {}\n`
  const wrong = [...examplesOf(text, 'a.md'), ...examplesOfComments(comment, 'b.ts')]
  const found = checkTypes(wrong)
  t.equal(found.length, 2)
  t.match(found[0], /^a\.md:3, line 3: Argument of type 'number'/)
  t.match(found[1], /^b\.ts:6, line 3: Argument of type 'number'/)
})

/** Methods that a protocol of the language calls. */
const PROTOCOL = new Set(['next', 'return', 'throw'])

t.test('every public name, and every method, has an example', async t => {
  const entry = join(root, 'lib', 'index.ts')
  const { options } = ts.parseJsonConfigFileContent(
    { compilerOptions: { ...readOptions(), noEmit: true } },
    ts.sys,
    root,
  )
  const program = ts.createProgram([entry], options)
  const checker = program.getTypeChecker()
  const hasExample = (symbol: ts.Symbol) =>
    symbol.getJsDocTags(checker).some(({ name, text }) => {
      const content = text?.map(part => part.text).join('') ?? ''
      return name === 'example' && content.includes('```ts\n')
    })
  const names = checker.getExportsOfModule(
    checker.getSymbolAtLocation(program.getSourceFile(entry)!)!,
  )
  t.ok(names.length > 20)
  const resolved = (name: ts.Symbol) =>
    name.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(name) : name
  // Of a namespace, each of its names counts.
  const all = names.flatMap(name => {
    const isNamespace = resolved(name).flags & ts.SymbolFlags.ValueModule
    return isNamespace ? checker.getExportsOfModule(resolved(name)) : [name]
  })
  t.ok(all.length > names.length)
  for (const name of all) {
    const symbol = resolved(name)
    t.not(
      ts.displayPartsToString(symbol.getDocumentationComment(checker)),
      '',
      `${name.name}: comment`,
    )
    t.ok(hasExample(symbol), `${name.name}: example`)
    if (!(symbol.flags & ts.SymbolFlags.Class)) continue
    for (const member of symbol.members?.values() ?? []) {
      const declaration = member.valueDeclaration
      if (!declaration || !ts.isMethodDeclaration(declaration)) continue
      if (!ts.isIdentifier(declaration.name) || PROTOCOL.has(member.name)) continue
      if (ts.getCombinedModifierFlags(declaration) & ts.ModifierFlags.Private) continue
      if (member.getJsDocTags(checker).some(({ name }) => name === 'internal')) continue
      t.ok(hasExample(member), `${name.name}.${member.name}: example`)
    }
  }
})

t.test("the README's sample prints what the README shows", async t => {
  const readme = read('README.md')
  const sample = /^```ts\n([\s\S]*?)^```\n\n```text\n([\s\S]*?)^```$/m.exec(readme)
  if (!sample) throw new Error('README.md has no sample with its output')
  const [, code = '', output] = sample
  t.match(code, /'npm:moepp-books-7m'/, 'the package of the model in models/books-7m')
  const program = code.replace("'npm:moepp-books-7m'", JSON.stringify(BOOKS))
  const path = join(folder, 'readme.mjs')
  writeFileSync(path, transformSync(program, { loader: 'ts' }).code)
  const env = { ...process.env, NODE_OPTIONS: '' }
  const { stdout, stderr, status } = spawnSync(process.execPath, [path], { encoding: 'utf8', env })
  t.same({ stdout, stderr, status }, { stdout: output, stderr: '', status: 0 })
})
