/** Values that parsers get wrong. */

import type { Random } from './random.js'

/** Each of them, and its neighbours, is tried as a size, an offset, an id, a count. */
const BOUNDARIES = [
  0n,
  1n,
  8n,
  64n,
  127n,
  255n,
  256n,
  1n << 15n,
  1n << 16n,
  1n << 20n,
  1n << 24n,
  1n << 31n,
  1n << 32n,
  1n << 53n,
  1n << 63n,
  1n << 64n,
]

export function boundary(random: Random): bigint {
  const value = random.pick(BOUNDARIES) + BigInt(random.below(3) - 1)
  return random.once(6) ? -value : value
}

/** Numbers as JSON spells them; not all of them are numbers. */
const NUMBERS = ['-0', '0.5', '1e2', '1.0', '-1.5', '1e400', '-1e400', '1e-400', '4e-324']
  .concat(['9007199254740993', '1.7976931348623157e308', '340282350000000000000000000000000000000'])
  .concat(['NaN', 'Infinity', '01', '+1', '0x10', '1.', '.5'])

export function numberText(random: Random): string {
  return random.once(3) ? random.pick(NUMBERS) : String(boundary(random))
}

const TEXTS = [
  '',
  ' ',
  '\0',
  '\n',
  '\u2581',
  '\ud800',
  '\udc00',
  '\ud83d\ude00',
  '\ufeff',
  '\uffff',
]
  .concat(['__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty', 'valueOf'])
  .concat(['..', '.', '/', '../x', '../../../../etc/passwd', '/etc/passwd', 'C:\\x', 'a\\b', 'a/b'])
  .concat(['/dev/zero', 'CON', 'x\0.json', '%2e%2e', 'a'.repeat(300), '$&', '<0x00>', '<unk>'])
  .concat(['torch.FloatStorage', 'F32', 'U8', 'int4', 'BPE', 'null', 'true', '1', '\\', '"'])

export function hostileText(random: Random): string {
  return random.pick(TEXTS)
}

/** `text`, changed a little or exchanged. */
export function changedText(text: string, random: Random): string {
  const at = random.below(text.length + 1)
  switch (random.below(8)) {
    case 0:
      return text.slice(0, at)
    case 1:
      return text + hostileText(random)
    case 2:
      return text.slice(0, at) + hostileText(random) + text.slice(at)
    case 3:
      return text.repeat(1 + random.below(random.once(50) ? 600 : 3))
    case 4:
      return text.slice(at) + text.slice(0, at)
    case 5:
      return random.once(2) ? text.toUpperCase() : text.toLowerCase()
    default:
      return hostileText(random)
  }
}
