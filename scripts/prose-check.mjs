// Checks the width of lines, and the English of Markdown and comments, in every tracked text file.
//
//   node scripts/prose-check.mjs [files]    all files, or these
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { extname, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { root } from './build-native.mjs'

export const MAX_COLUMNS = 100
export const MAX_WORDS = 25

/** Data, generated files, licences. */
const EXEMPT =
  /^(models|test\/golden)\/|^docs\/api\.md$|package-lock\.json$|^LICENSE$|^THIRD_PARTY_NOTICES\.md$|\.(json|svg|bin|model|safetensors|npz|png)$/

/** Formatters break the code of these where it can be broken; only their comments are checked. */
const SLASHED = ['.ts', '.mjs', '.cjs', '.cts', '.cc', '.h', '.cu', '.cuh', '.inc']

/** Words that begin a clause in the place of a noun, and phrases that hide who does what. */
const PATTERNS = [
  [
    /^(what|which|why|where|who|whom|whose|whether|how(?! to\b)|whatever|whoever)\s[^?]*$/i,
    'clause first',
  ],
  [/\bof which\b/i, '"of which"'],
  [/\b(in|to|from|by|for|with) which\b.*\b(in|to|from|by|for|with) which\b/i, 'chain of "which"'],
  [/\bas far as\b/i, '"as far as"'],
  [/\bso that (it is|they are) not\b/i, '"so that it is not"'],
  [/\bwhat meets\b/i, '"what meets"'],
  [/\bwhom\b/i, '"whom"'],
  [/\bnobody\b/i, '"nobody"'],
  [/\bis of the\b/i, '"is of the"'],
]

const ABBREVIATION = /(?:^|[\s(])(?:e\.g|i\.e|vs|cf|approx|resp|incl|fig|eq|al)\.$/i

/** Comments that programs read. */
const DIRECTIVE = /^\s*(SASS|clang-format|biome-ignore|@ts-)/

/** The lines of comments without their markers; `undefined` for lines of code. */
function commentLines(lines, slashed) {
  let block = false
  return lines.map(line => {
    if (!slashed) return /^\s*#(?!!)\s?(.*)$/.exec(line)?.[1]
    if (block) {
      block = !line.includes('*/')
      return line.replace(/^\s*\*? ?/, '').replace(/\s*\*?\/$/, '')
    }
    const found = /^\s*(\/\/+|\/\*+) ?(.*)$/.exec(line)
    if (!found || DIRECTIVE.test(found[2])) return undefined
    if (!found[1].startsWith('/*')) return found[2]
    block = !line.includes('*/')
    return found[2].replace(/\s*\*\/.*$/, '')
  })
}

/** Paragraphs and list items as { line, text }: without code blocks, tables, headings and HTML. */
function paragraphs(lines) {
  const found = []
  let open
  let fenced = false
  lines.forEach((given, index) => {
    const line = given ?? ''
    const fence = /^\s*(?:[-*>]\s+)*(```|~~~)/.test(line)
    if (fence) fenced = !fenced
    const skipped = fence || fenced || /^\s*$|^\s*[|<#]|^\s*[-=~*_]{3,}\s*$/.test(line)
    const item = /^\s*(?:[-*+]|\d+[.)]|@\w+|\[[^\]]+\]:)\s/.test(line)
    // Deeper lines that continue nothing are examples, and tables by spaces.
    const example = /^( {3,}|\t)/.test(line) && !item && !open?.item
    const table = /\S {3,}\S/.test(line)
    if (skipped || example || table) open = undefined
    else if (item || !open) {
      open = { line: index + 1, text: line.replace(/^\s*(?:>\s*)*(?:[-*+]|\d+[.)])\s/, ''), item }
      found.push(open)
    } else open.text += `\n${line.replace(/^\s*>/, '')}`
  })
  return found
}

/** The sentences of a paragraph as { line, text }. It splits rather too often than too rarely. */
export function sentences({ line, text }) {
  const plain = text
    .replace(/(`+)[\s\S]*?\1/g, code => `Code${code.replace(/[^\n]/g, '')}`)
    .replace(/!?\[([^\]]*)\]\([^)]*\)/g, '$1')
    .replace(/\bhttps?:\/\/\S*\w/g, 'Link')
  const found = []
  let begin = 0
  for (const { index, 0: end } of plain.matchAll(/[.!?]["')\]*_]*(?=\s|$)|\n(?=@)|$/g)) {
    const part = plain.slice(begin, index + end.length)
    const abbreviated = ABBREVIATION.test(plain.slice(begin, index + 1))
    if (abbreviated && index + end.length < plain.length) continue
    const lead = /^\s*/.exec(part)[0]
    const before = plain.slice(0, begin) + lead
    if (part.trim()) found.push({ line: line + before.split('\n').length - 1, text: part.trim() })
    begin = index + end.length
  }
  return found
}

/** Numbers do not count, nor does code in an enumeration. */
const wordsOf = text =>
  text.split(/\s+/).filter(word => /\p{L}/u.test(word) && !/^Code\W*,$/.test(word))

/** The first fault of a sentence, in words, or '' if it has none. */
export function faultOf(text) {
  const words = wordsOf(text.replace(/^@\w+(?:\s+\{[^}]*\})?/, ''))
  const shown = `"${wordsOf(text).slice(0, 6).join(' ')} ..."`
  if (words.length > MAX_WORDS) return `${words.length} words, at most ${MAX_WORDS}: ${shown}`
  const start = text.replace(/^[^\p{L}\p{N}@]+/u, '')
  const [, name] = PATTERNS.find(([pattern]) => pattern.test(start)) ?? []
  return name ? `${name}: ${shown}` : ''
}

function proseFaults(file, lines) {
  const kind = kindOf(file)
  const prose = kind === 'markdown' ? lines : commentLines(lines, kind === 'slashed')
  return paragraphs(prose)
    .flatMap(sentences)
    .map(({ line, text }) => ({ line, fault: faultOf(text) }))
    .filter(({ fault }) => fault !== '')
}

function kindOf(file) {
  if (file.endsWith('.md')) return 'markdown'
  return SLASHED.includes(extname(file)) ? 'slashed' : 'hashed'
}

function widthFaults(file, lines) {
  const kind = kindOf(file)
  const comments = kind === 'slashed' ? commentLines(lines, true) : undefined
  let fence
  let unformatted = false
  const faults = []
  lines.forEach((line, index) => {
    const mark = kind === 'markdown' && /^\s*(?:```|~~~)(\w*)/.exec(line)
    if (mark) fence = fence === undefined ? mark[1] : undefined
    if (/clang-format (off|on)/.test(line)) unformatted = line.includes('clang-format off')
    const columns = [...line].length
    if (columns <= MAX_COLUMNS || unformatted) return
    if (comments && comments[index] === undefined) return
    // Table rows, a program's output, and a link alone cannot be wrapped.
    if (kind === 'markdown' && (/^\s*\|/.test(line) || ['', 'text', 'console'].includes(fence)))
      return
    const bare = line.replace(/^[\s/*#>-]+/, '')
    if (/^(\S*:?\s*)?(https?:\/\/\S+|!?\[[^\]]*\]\([^)]*\)|\[[^\]]*\]:\s*\S+)[.,;]?$/.test(bare))
      return
    faults.push({ line: index + 1, fault: `${columns} columns, at most ${MAX_COLUMNS}` })
  })
  return faults
}

/** The faults of a text as { line, fault }. */
export function faultsOf(file, text) {
  const lines = text.split(/\r?\n/)
  const faults = [...widthFaults(file, lines), ...proseFaults(file, lines)]
  return faults.sort((a, b) => a.line - b.line)
}

function listedFiles() {
  const list = ['ls-files', '-z', '--cached', '--others', '--exclude-standard']
  const git = spawnSync('git', list, { cwd: root, encoding: 'utf8' })
  if (git.status !== 0) throw new Error('prose-check needs a git checkout')
  // git still lists a file that was deleted a moment ago.
  return git.stdout.split('\0').filter(each => each && existsSync(resolve(root, each)))
}

function main(args) {
  const files = args.length > 0 ? args : listedFiles()
  let count = 0
  for (const file of files.filter(each => !EXEMPT.test(each))) {
    for (const { line, fault } of faultsOf(file, readFileSync(resolve(root, file), 'utf8'))) {
      console.error(`${file}:${line}: ${fault}`)
      count++
    }
  }
  if (count > 0) console.error(`prose-check: ${count} ${count === 1 ? 'fault' : 'faults'}`)
  process.exit(count > 0 ? 1 : 0)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) main(process.argv.slice(2))
