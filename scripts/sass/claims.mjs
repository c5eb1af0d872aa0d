// The claims of native/cuda/kernels/README.md: read, and compared with the machine code.
import { readFileSync } from 'node:fs'
import { opcodes } from './opcodes.mjs'

/** The claims of a source: {architectures, kernel, terms}. */
export function readClaims(source) {
  const claims = []
  for (const match of readFileSync(source, 'utf8').matchAll(/^\s*\/\/ SASS (\S+) (\S+): (.+)$/gm)) {
    claims.push({
      architectures: match[1].split(','),
      kernel: match[2],
      terms: match[3].trim().split(/\s+/),
    })
  }
  return claims
}

const names = new Set(opcodes.values())
/** {name, limit} of an early- term, or undefined for another. */
function readEarly(term) {
  const match = /^early-([A-Z]+)<=(\d+)$/.exec(term)
  return match && names.has(match[1]) ? { name: match[1], limit: Number(match[2]) } : undefined
}

/** The contradiction of a term in words, or undefined if it holds. */
function refute(term, { usage, counts }) {
  if (readEarly(term)) return undefined // refuteOrder, refuteUnused
  if (term === 'no-spills')
    return usage.spillBytes === 0 ? undefined : `${usage.spillBytes} bytes of spills`
  const limit = /^registers(<?=)(\d+)$/.exec(term)
  if (limit) {
    const wanted = Number(limit[2])
    const holds = limit[1] === '=' ? usage.registers === wanted : usage.registers <= wanted
    return holds ? undefined : `${usage.registers} registers, not ${term}`
  }
  const absent = /^!([A-Z]+)$/.exec(term)
  if (absent && names.has(absent[1]))
    return counts.has(absent[1])
      ? `${counts.get(absent[1])} ${absent[1]}, expected none`
      : undefined
  const present = /^([A-Z]+)(?:>=(\d+))?$/.exec(term)
  if (!present || !names.has(present[1])) return `the claim ${term} is not understood`
  const count = counts.get(present[1]) ?? 0
  return count >= Number(present[2] ?? 1)
    ? undefined
    : `${count} ${present[1]}, expected ${present[2] ?? 'some'}`
}

/** The things that a kernel must not do before its wait, given the terms of its claims. */
function refuteOrder({ order }, terms) {
  if (!order) return []
  const early = [...order.early].flatMap(([name, count]) => {
    const limits = terms
      .map(readEarly)
      .filter(exception => exception?.name === name)
      .map(({ limit }) => limit)
    return count <= Math.max(0, ...limits)
      ? []
      : [`${count} ${name} before the wait, expected ${limits[0] ?? 'none'}`]
  })
  return [...order.wrong, ...early]
}

/** The exceptions of a claim that none of its kernels needs, among those that wait. */
function refuteUnused(terms, kernels) {
  const waiting = kernels.filter(({ order }) => order)
  return terms.filter(term => {
    const exception = readEarly(term)
    return (
      exception &&
      waiting.length > 0 &&
      waiting.every(({ order }) => !order.early.has(exception.name))
    )
  })
}

/** _ZN5moepp4cuda4gemmILi64EEEvPf -> gemm<Li64> */
export function shortName(mangled) {
  const names = []
  let rest = mangled.replace(/^_ZN?/, '')
  for (let match = /^L?(\d+)/.exec(rest); match; match = /^L?(\d+)/.exec(rest)) {
    names.push(rest.slice(match[0].length, match[0].length + Number(match[1])))
    rest = rest.slice(match[0].length + Number(match[1]))
  }
  const template = /^I(.+?)EE?v/.exec(rest)
  return (names.at(-1) ?? mangled) + (template ? `<${template[1]}>` : '')
}

/**
 * The wrong claims about a source's kernels on one architecture. `implied` are terms that hold for
 * every kernel; one whose claims name other architectures alone is empty here, and has none.
 */
export function refuteClaims(claims, implied, kernels, architecture) {
  const wrong = []
  const isHere = ({ architectures }) =>
    architectures.includes('*') || architectures.includes(architecture)
  for (const { kernel, terms } of claims.filter(isHere)) {
    const found = kernels.filter(({ name }) => name.includes(kernel))
    if (found.length === 0) wrong.push(`${architecture}: no kernel is named ${kernel}`)
    for (const term of refuteUnused(terms, found))
      wrong.push(`${architecture}: no ${kernel} needs the claim ${term}`)
  }
  for (const one of kernels) {
    const found = claims.filter(({ kernel }) => one.name.includes(kernel))
    const here = found.filter(isHere)
    const terms = here.flatMap(claim => claim.terms)
    const texts = [
      ...(found.length === 0 ? ['no claim speaks of it'] : []),
      ...terms.map(term => refute(term, one)),
      ...(found.length > 0 && here.length === 0 ? [] : implied).map(term => {
        const text = refute(term, one)
        return text && `${text}, as in await_inputs`
      }),
      ...refuteOrder(one, terms),
    ]
    for (const text of texts)
      if (text) wrong.push(`${architecture} ${shortName(one.name)}: ${text}`)
  }
  return wrong
}
