// The bundled model's routing of its held-out text, for figures.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { root } from './build-native.mjs'

/** Tokens whose own costs are told. */
const TOKENS = 1000

/** The report, and the first tokens with the mean of their FFN experts over layers. */
export function surveyed() {
  const folder = mkdtempSync(join(tmpdir(), 'moepp-figures-'))
  const run = (...options) => {
    const model = join('models', 'books-7m')
    const given = [join(model, 'heldout.txt'), '--model', model, '--no-measure', ...options]
    execFileSync(process.execPath, [join('dist', 'cli', 'main.js'), 'routing', ...given], {
      ...{ cwd: root, stdio: ['ignore', 'ignore', 'inherit'] },
    })
  }
  try {
    const [report, tokens] = ['report.json', 'tokens.csv'].map(name => join(folder, name))
    run('--out', report)
    run('--limit', String(TOKENS), '--tokens', tokens)
    return {
      report: JSON.parse(readFileSync(report, 'utf8')),
      tokens: means(readFileSync(tokens, 'utf8')),
    }
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** Of a table that has a row for each token and layer, those of a token behind each other. */
function means(csv) {
  const [names, ...rows] = csvRows(csv)
  const at = Object.fromEntries(names.map((name, i) => [name, i]))
  const layers = new Set(rows.map(row => row[at.layer])).size
  return Array.from({ length: rows.length / layers }, (_, i) => {
    const own = rows.slice(i * layers, (i + 1) * layers)
    const sum = own.reduce((sum, row) => sum + Number(row[at.ffn_experts]), 0)
    return { text: own[0][at.text], ffnExperts: sum / layers }
  })
}

/** RFC 4180. */
function csvRows(csv) {
  const rows = [[]]
  for (const [, quoted, plain, end] of csv.matchAll(/(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r\n)/g)) {
    rows.at(-1).push(quoted?.replaceAll('""', '"') ?? plain)
    if (end !== ',') rows.push([])
  }
  return rows.slice(0, -1)
}
