/** Strings of JSON Schema: lengths, patterns, formats. */
import type { Expression } from './expression.js'
import { IN_STRING, quoted, stringOf } from './json-text.js'
import { anyMatch, wholeMatch } from './regex.js'
import { badPlace, integerAt, type Place, type Schema } from './schema-place.js'

const MONTH_DAY =
  '(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\\d|30)|02-(?:0[1-9]|1\\d|2[0-8]))'
const LEAP_YEAR = '(?:\\d\\d(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)'
const DATE = `(?:\\d{4}-${MONTH_DAY}|${LEAP_YEAR}-02-29)`
const HOUR_MINUTE = '(?:[01]\\d|2[0-3]):[0-5]\\d'
const TIME = `${HOUR_MINUTE}:[0-5]\\d(?:\\.\\d{1,6})?(?:Z|[+\\-]${HOUR_MINUTE})`
const BYTE = '(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)'
const LABEL = '[a-z0-9](?:[a-z0-9\\-]{0,30}[a-z0-9])?'
const HOST = `${LABEL}(?:\\.${LABEL}){0,3}`
const HEX = '[0-9a-f]'

/** A part of what each format allows: RFC 3339, 4122, 1123, 5321, 3986. */
const FORMATS: Readonly<Record<string, string>> = {
  date: DATE,
  time: TIME,
  'date-time': `${DATE}T${TIME}`,
  uuid: `${HEX}{8}(?:-${HEX}{4}){3}-${HEX}{12}`,
  ipv4: `${BYTE}(?:\\.${BYTE}){3}`,
  ipv6: `(?:${HEX}{1,4}:){7}${HEX}{1,4}`,
  hostname: HOST,
  email: `[a-z0-9](?:[a-z0-9_\\-]{0,30}[a-z0-9])?(?:\\.[a-z0-9]{1,30})?@${LABEL}(?:\\.${LABEL}){1,3}`,
  uri: `https?://${HOST}(?:/[a-zA-Z0-9_\\-.~]{1,60}){0,8}/?`,
}

export function stringIn(schema: Schema, place: Place): Expression {
  const { pattern, format } = schema
  const least = integerAt(schema, 'minLength', place) ?? 0
  const most = integerAt(schema, 'maxLength', place) ?? Infinity
  if (least > most) throw badPlace(place, 'minLength', `is above maxLength, ${most}`)
  const special = [
    ...(pattern === undefined ? [] : ['pattern']),
    ...(format === undefined ? [] : ['format']),
    ...(least === 0 && most === Infinity ? [] : ['minLength or maxLength']),
  ]
  if (special.length > 1)
    throw badPlace(place, special[0]!, `is not supported together with ${special[1]}`)
  if (pattern !== undefined) {
    if (typeof pattern !== 'string') throw badPlace(place, 'pattern', 'expected a string')
    return quoted(anyMatch(pattern, place.of('pattern'), IN_STRING))
  }
  if (format !== undefined) return quoted(formatOf(format, place))
  return stringOf(least, most)
}

function formatOf(format: unknown, place: Place): Expression {
  if (typeof format === 'string' && Object.hasOwn(FORMATS, format))
    return wholeMatch(FORMATS[format]!, place.of('format'), IN_STRING)
  const known = Object.keys(FORMATS).join(', ')
  throw badPlace(place, 'format', `is not supported, expected one of ${known}`)
}
