/** Numbers and tables for people. */

/** 7003680 is `7,003,680`. */
export function formatCount(n: number): string {
  return n.toLocaleString('en-US')
}

/** 1 is `1 prompt`, 2000 is `2,000 prompts`. */
export function formatNumber(n: number, thing: string): string {
  return `${formatCount(n)} ${thing}${n === 1 ? '' : 's'}`
}

const PREFIXES = ['', 'k', 'M', 'G', 'T']

/** A number below 999.5, and the prefix of its unit. */
function prefixed(n: number): [scaled: number, prefix: string] {
  let scaled = n
  let at = 0
  while (scaled >= 999.5 && at + 1 < PREFIXES.length) {
    scaled /= 1000
    at++
  }
  return [scaled, PREFIXES[at]!]
}

/** Decimal units: 28014720 is `28.0 MB`. */
export function formatBytes(bytes: number): string {
  const [scaled, prefix] = prefixed(bytes)
  return `${prefix === '' ? scaled : scaled.toPrecision(3)} ${prefix}B`
}

/** 1234567 is `1.23 M`. */
export function formatLarge(n: number): string {
  const [scaled, prefix] = prefixed(n)
  return `${formatRate(scaled)} ${prefix}`.trimEnd()
}

/** A rate's decimals follow from its size: 31780.4 is `31,780`, 45.67 is `45.7`, 3.2 is `3.20`. */
export function formatRate(rate: number, decimals = rateDecimals(rate)): string {
  return rate.toLocaleString('en-US', {
    minimumFractionDigits: decimals,
    maximumFractionDigits: decimals,
  })
}

/** Of three significant digits, those after the point. */
export function rateDecimals(rate: number): number {
  if (rate >= 99.95) return 0
  return rate >= 9.995 ? 1 : 2
}

/** 2 is `2`, 4/3 is `1.33`. */
export function formatRatio(x: number): string {
  return String(Number(x.toFixed(2)))
}

/** 75 is `1:15 min`. */
export function formatDuration(seconds: number): string {
  const whole = Math.ceil(seconds)
  if (whole < 60) return `${whole} s`
  const [minutes, rest] = [Math.floor(whole / 60), whole % 60]
  return `${minutes}:${String(rest).padStart(2, '0')} min`
}

export type Align = 'left' | 'right'

/**
 * Rows as lines of aligned columns, indented by two spaces. The last column is not padded when it
 * is on the left.
 */
export function formatTable(rows: readonly (readonly string[])[], align: readonly Align[]): string {
  const widths = align.map((_, column) => Math.max(...rows.map(row => (row[column] ?? '').length)))
  return rows
    .map(row => {
      const cells = row.map((cell, i) =>
        align[i] === 'right' ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!),
      )
      return `  ${cells.join('  ')}`.trimEnd()
    })
    .join('\n')
}
