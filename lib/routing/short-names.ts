/** Short names of models and files: the last parts of their paths. */

/** As many of each path's last parts as tell it from the others: mostly one. */
export function shortNames(paths: readonly string[]): ReadonlyMap<string, string> {
  const all = [...new Set(paths)]
  return new Map(
    all.map(path => {
      const others = all.filter(other => other !== path)
      for (let n = 1; ; n++) {
        const name = lastParts(path, n)
        if (n >= partsOf(path).length || others.every(other => lastParts(other, n) !== name))
          return [path, name]
      }
    }),
  )
}

function lastParts(path: string, n: number): string {
  return partsOf(path).slice(-n).join('/') || path
}

function partsOf(path: string): string[] {
  return path.split(/[/\\]/).filter(Boolean)
}
