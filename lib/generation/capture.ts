/**
 * Captured buffers: which ones a caller names, and their rows as they arrive from several steps.
 */

/**
 * The names that `patterns` mean, in the order of `names`. `*` stands for one part of a name:
 * `layers.*.router_logits`.
 * @throws TypeError, RangeError for a pattern that names nothing
 */
export function captureNames(patterns: unknown, names: readonly string[]): string[] {
  if (!Array.isArray(patterns)) throw new TypeError('capture: expected an array of names')
  const wanted = new Set<string>()
  patterns.forEach((pattern: unknown, i) => {
    if (typeof pattern !== 'string') {
      throw new TypeError(`capture[${i}]: expected a name, got ${typeof pattern}`)
    }
    const expression = pattern
      .split('*')
      .map(part => part.replace(/[\\^$.|?+()[\]{}]/g, '\\$&'))
      .join('[^.]*')
    const matches = names.filter(name => new RegExp(`^${expression}$`).test(name))
    if (matches.length === 0) {
      throw new RangeError(
        `capture[${i}]: expected one of ${families(names).join(', ')}, got ${JSON.stringify(pattern)}`,
      )
    }
    for (const name of matches) wanted.add(name)
  })
  return names.filter(name => wanted.has(name))
}

/**
 * The names with their numbers as ranges, `layers.{0..31}.router_logits`, so that a message stays
 * readable.
 */
function families(names: readonly string[]): string[] {
  const numbers = new Map<string, number[]>()
  for (const name of names) {
    const family = name.replace(/\d+/, '*')
    const number = /\d+/.exec(name)
    numbers.set(family, [...(numbers.get(family) ?? []), ...(number ? [Number(number[0])] : [])])
  }
  return [...numbers].map(([family, of]) =>
    family.replace('*', of.length > 1 ? `{${Math.min(...of)}..${Math.max(...of)}}` : `${of[0]}`),
  )
}

type Rows = Int32Array | Float32Array

/** Keeps the rows of captured buffers. */
export class CaptureRecorder {
  readonly #parts = new Map<string, Rows[]>()

  add(name: string, rows: Rows): void {
    const parts = this.#parts.get(name)
    // A copy: the rows belong to a step's whole buffer.
    if (parts) parts.push(rows.slice())
    else this.#parts.set(name, [rows.slice()])
  }

  /** All rows of a buffer; undefined if there are none. */
  rows(name: string): Rows | undefined {
    const parts = this.#parts.get(name)
    if (!parts || parts.length === 1) return parts?.[0]
    const length = parts.reduce((n, part) => n + part.length, 0)
    const all = parts[0] instanceof Int32Array ? new Int32Array(length) : new Float32Array(length)
    let at = 0
    for (const part of parts) {
      all.set(part, at)
      at += part.length
    }
    return all
  }
}
