/** The documents: links lead somewhere, every error code has a section, the picture is current. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import t from 'tap'
import { root } from '../support/golden.js'

const read = (path: string) => readFileSync(join(root, path), 'utf8')
const markdownIn = (folder: string) =>
  readdirSync(join(root, folder))
    .filter(name => name.endsWith('.md'))
    .map(name => join(folder, name))
const documents = [
  ...['.', 'docs', 'bench', 'native', 'native/cuda/simt'].flatMap(markdownIn),
  'models/books-7m/README.md',
].map(path => relative('.', path))

/** A document without its code blocks. */
function prose(text: string): string {
  return text.replaceAll(/^```[\s\S]*?^```$/gm, '').replaceAll(/^ {4}.*$/gm, '')
}

/** The targets of a document's links and pictures, without those on the web. */
function links(text: string): string[] {
  const inline = prose(text).matchAll(/\]\(([^)\s]+)\)/g)
  const named = prose(text).matchAll(/^\[[^\]]+\]: (\S+)/gm)
  return [...inline, ...named].map(([, to]) => to!).filter(to => !/^[a-z]+:/.test(to))
}

/** The anchors of a document as GitHub makes them of its headings; a repeated one gets a number. */
function anchors(text: string): Set<string> {
  const found = new Set([...text.matchAll(/<a id="([^"]+)"/g)].map(([, id]) => id!))
  for (const [, heading] of text.replaceAll(/^```[\s\S]*?^```$/gm, '').matchAll(/^#+ (.*)$/gm)) {
    const slug = heading!
      .toLowerCase()
      .replaceAll(/[^\p{Letter}\p{Number} _-]/gu, '')
      .replaceAll(' ', '-')
    let unique = slug
    for (let i = 1; found.has(unique); i++) unique = `${slug}-${i}`
    found.add(unique)
  }
  return found
}

/** True if npm packs a file. The entries of package.json's `files` are paths; some have a `*`. */
function isPacked(path: string): boolean {
  const { files } = JSON.parse(read('package.json')) as { files: string[] }
  if (['README.md', 'LICENSE', 'package.json'].includes(path)) return true
  return files.reduce((packed, entry) => {
    const pattern = entry.replace(/^!/, '').replaceAll('.', '\\.').replaceAll('*', '[^/]*')
    return new RegExp(`^${pattern}(/|$)`).test(path) ? !entry.startsWith('!') : packed
  }, false)
}

for (const document of documents) {
  t.test(`links of ${document}`, async t => {
    for (const link of links(read(document))) {
      const [path = '', anchor] = link.split('#')
      const target = path === '' ? document : relative('.', join(dirname(document), path))
      if (!t.ok(existsSync(join(root, target)), `${link} exists`)) continue
      if (anchor !== undefined)
        t.ok(anchors(read(target)).has(anchor), `${link}: the heading exists`)
      if (isPacked(document)) t.ok(isPacked(target), `${link} is in the npm package, too`)
    }
  })
}

t.test('the checks of links notice what is wrong', async t => {
  t.same(links('[a](b.md#c) ![d](e.svg) [web](https://x.y)\n[n]: f.md\n```\n[g](h)\n```\n'), [
    'b.md#c',
    'e.svg',
    'f.md',
  ])
  t.same([...anchors('# A `b` c\n## A b c\n```\n# no\n```\n')], ['a-b-c', 'a-b-c-1'])
  t.ok(isPacked('docs/guide.md'))
  t.ok(isPacked('native/README.md'))
  for (const path of ['lib/index.ts', 'native/test/main.cc', 'bench/run.mjs', 'docs.md'])
    t.notOk(isPacked(path), path)
})

t.test('the README is short', async t => {
  t.ok(read('README.md').trimEnd().split('\n').length <= 120)
})

t.test('troubleshooting has a section for every error code, and for no other', async t => {
  const codes = [...read('lib/errors.ts').matchAll(/^ {2}\| '(ERR_\w+)'$/gm)].map(
    ([, code]) => code,
  )
  const sections = [...read('docs/troubleshooting.md').matchAll(/^### (ERR_\w+)$/gm)]
  t.ok(codes.length > 15)
  t.same(sections.map(([, code]) => code).sort(), [...codes].sort())
})

t.test("the README's picture is drawn from bench/speed.json", async t => {
  // Plain JavaScript without types; a path that the compiler does not follow.
  const { bars, picture, plot, readData } = await import(join(root, 'bench', 'speed-plot.mjs'))
  const data = readData()
  t.equal(readFileSync(picture, 'utf8'), plot(data), 'node bench/speed-plot.mjs draws it again')
  // The shares of the ceiling that bench/README.md has for MoE++, measured in other runs: near.
  const shares = data.rows.map((row: object) => {
    const { rate, ceiling } = bars(data, row).at(-1)
    return rate / ceiling
  })
  for (const [i, measured] of [0.86, 0.79, 0.72, 0.66].entries())
    t.ok(Math.abs(shares[i] / measured - 1) < 0.15, `${shares[i]} is near ${measured}`)
  // Every figure of the data is in bench/README.md's table.
  const table = read('bench/README.md')
  for (const { llamaCpp, vanilla, moepp } of data.rows)
    t.ok(table.includes(`prefill 512 | ${llamaCpp} | ${vanilla} x | ${moepp} x |`), `${llamaCpp}`)
})
