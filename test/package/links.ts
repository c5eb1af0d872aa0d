/** Links of Markdown documents to files beside them. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

/** Links of the documents in a folder that lead to no file in it, as `document: link`. */
export function brokenLinks(folder: string, documents: readonly string[]): string[] {
  const broken: string[] = []
  for (const document of documents) {
    // Code shows links that are none.
    const text = readFileSync(join(folder, document), 'utf8').replaceAll(
      /```[\s\S]*?```|`[^`]*`/g,
      '',
    )
    const targets = [
      ...[...text.matchAll(/\]\(\s*<?([^)\s>]+)/g)].map(match => match[1]!),
      ...[...text.matchAll(/\b(?:src|srcset|href)="([^"\s]+)/g)].map(match => match[1]!),
    ]
    for (const target of targets) {
      if (/^(https?:|mailto:|#)/.test(target)) continue
      const path = decodeURIComponent(target.replace(/[?#].*$/, ''))
      if (!existsSync(join(folder, dirname(document), path))) broken.push(`${document}: ${target}`)
    }
  }
  return broken
}

/** The Markdown documents of an installed package. */
export function documentsIn(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .map(file => file.replaceAll('\\', '/'))
    .filter(file => file.endsWith('.md') && !file.startsWith('node_modules/'))
}
