/** Reads the tars of test/golden: plain ustar, regular files only. */
import { readFileSync } from 'node:fs'

const BLOCK = 512

/** The files of a tar by name. */
export function readTar(path: string): Map<string, Buffer> {
  const bytes = readFileSync(path)
  const files = new Map<string, Buffer>()
  for (let at = 0; bytes[at]; ) {
    const text = (from: number, length: number) =>
      bytes.toString('utf8', at + from, at + from + length).replace(/\0.*$/s, '')
    const name = [text(345, 155), text(0, 100)].filter(part => part !== '').join('/')
    if (text(257, 5) !== 'ustar' || text(156, 1) !== '0')
      throw new Error(`${path}: ${name} is not a regular file of a ustar archive`)
    const size = Number.parseInt(text(124, 12), 8)
    const start = at + BLOCK
    files.set(name, bytes.subarray(start, start + size))
    at = start + Math.ceil(size / BLOCK) * BLOCK
  }
  return files
}
