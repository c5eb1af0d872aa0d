// Reads the output of a test program that tap wrote.

/** The numbers of assertions, from tap's last lines; undefined if it did not come to them. */
export function totalsOf(text) {
  const totals = /^# \{ total: \d+.*\}$/m.exec(text)?.[0]
  if (totals === undefined) return undefined
  const number = name => Number(new RegExp(`\\b${name}: (\\d+)`).exec(totals)?.[1] ?? 0)
  return { passed: number('pass'), failed: number('fail'), skipped: number('skip') }
}

/**
 * Each failed assertion: a line `file:line: test > its part: assertion`, and below it what tap says
 * of the difference. The results of tests that hold failed assertions are left out.
 */
export function failuresOf(text) {
  const failures = []
  /** The names of the open tests, the outermost first. */
  const open = []
  const lines = text.split('\n')
  for (const [i, line] of lines.entries()) {
    const [, indent, subtest] = /^( *)# Subtest: (.*)$/.exec(line) ?? []
    if (subtest !== undefined) open.splice(indent.length / 4, Infinity, subtest)
    const [, before, name] = /^( *)not ok \d+(?: - )?(.*)$/.exec(line) ?? []
    if (name === undefined || / # (time=|SKIP|TODO)/.test(name)) continue
    const details = detailsAfter(lines, i, `${before}  `)
    const path = [...open.slice(0, before.length / 4), name].join(' > ')
    failures.push(`${placeIn(details)}: ${path}\n${differenceIn(details)}`.trimEnd())
  }
  return failures
}

/** The lines of the block `---` to `...` that follows line i, without their indent. */
function detailsAfter(lines, i, indent) {
  if (lines[i + 1] !== `${indent}---`) return []
  const end = lines.indexOf(`${indent}...`, i)
  return lines.slice(i + 2, end).map(line => line.slice(indent.length))
}

function placeIn(details) {
  const at = details.indexOf('at:')
  const value = name => {
    const line = details.slice(at).find(each => each.startsWith(`  ${name}: `))
    return line?.slice(name.length + 4)
  }
  return at < 0 ? 'unknown place' : `${value('fileName')}:${value('lineNumber')}`
}

/** All that the details say but the place and the source around it. */
function differenceIn(details) {
  const kept = []
  let keep = true
  for (const line of details) {
    if (/^\w/.test(line)) keep = !/^(at|source):/.test(line)
    if (keep) kept.push(`    ${line}`)
  }
  return kept.join('\n')
}
