/** Reads the fields of a request by a table that has a check for each. */
import { isObject, show } from '../../base/json.js'
import { type Checked, type Checks, checkAll, nearest } from '../../base/option-checks.js'
import { badField, RequestError } from '../errors.js'

/** Characters of an unknown name that an error shows. */
const MOST_SHOWN = 120

/**
 * The fields of a body, each checked. null counts as absent.
 * @throws RequestError 400 that names the field
 */
export function readFields<Context, C extends Checks<Context>>(
  body: unknown,
  checks: C,
  context: Context,
): Checked<C> {
  if (!isObject(body)) {
    const message = `the body: expected a JSON object, got ${show(body)}`
    throw new RequestError(400, 'invalid_request_error', message)
  }
  const given = Object.fromEntries(Object.entries(body).filter(([, value]) => value !== null))
  checkNames(given, Object.keys(checks))
  return asRequestErrors(() => checkAll(given, checks, context))
}

/** @throws RequestError 400 for a name that is not known */
export function checkNames(given: object, known: readonly string[], place = ''): void {
  const unknown = Object.keys(given).find(name => !known.includes(name))
  if (unknown === undefined) return
  const close = nearest(unknown, known)
  const list = `expected one of ${known.join(', ')}`
  throw badField(
    `${place}${unknown.slice(0, MOST_SHOWN)}`,
    `unknown field; ${close === undefined ? list : `did you mean ${close}?`}`,
  )
}

/** Runs checks that throw TypeError and RangeError with messages that begin with the field. */
function asRequestErrors<T>(check: () => T): T {
  try {
    return check()
  } catch (error) {
    const isCheck = error instanceof TypeError || error instanceof RangeError
    const [, param, message] = (isCheck && /^([\w.[\]-]+): (.*)$/s.exec(error.message)) || []
    throw param === undefined ? error : badField(param, message!)
  }
}

/** Of a field that changes nothing that this server does. */
export function ignored(): undefined {
  return undefined
}

/** Of a field whose effect this server does not have. */
export function refused(_value: unknown, name: string): never {
  throw badField(name, 'not supported')
}

/** Of a field for which this server has one value alone, which it need not look at. */
export function only(value: unknown) {
  return (given: unknown, name: string): undefined => {
    if (JSON.stringify(given) !== JSON.stringify(value))
      throw badField(name, `only ${JSON.stringify(value)} is supported, got ${show(given)}`)
  }
}
