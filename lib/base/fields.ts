/** Reads the JSON of a configuration, and checks its fields. */

import { MoeppError } from '../errors.js'
import { readText } from './input-file.js'
import { isObject, parseJson, show } from './json.js'

const INT32_MAX = 0x7fffffff
const MAX_CONFIG_BYTES = 10_000_000

/** @throws MoeppError ERR_NOT_FOUND, ERR_BAD_FILE */
export async function readConfigJson(path: string): Promise<unknown> {
  return parseJson(await readText(path, MAX_CONFIG_BYTES), path)
}

interface Range {
  readonly from?: number
  readonly above?: number
  readonly to?: number
}

/**
 * A JSON object's fields, each checked as it is read; knows afterwards which were never asked for.
 */
export class Fields {
  private readonly object: Record<string, unknown>
  private readonly read = new Set<string>()

  constructor(
    json: unknown,
    private readonly where: string,
  ) {
    if (!isObject(json)) throw this.bad(`expected an object, got ${show(json)}`)
    this.object = json
  }

  bad(message: string): MoeppError {
    return new MoeppError('ERR_BAD_CONFIG', `${this.where}: ${message}`)
  }

  take(key: string): unknown {
    this.read.add(key)
    return Object.hasOwn(this.object, key) ? this.object[key] : undefined
  }

  /** undefined if the key is absent or null, else what `parse` makes of it. */
  given<T>(key: string, parse: (key: string) => T): T | undefined {
    return (this.take(key) ?? undefined) === undefined ? undefined : parse(key)
  }

  /**
   * The one that is given of several names for the same key, or the first name. Different values
   * are refused.
   */
  oneOf(...keys: readonly [string, ...string[]]): string {
    const given = keys.filter(key => (this.take(key) ?? undefined) !== undefined)
    const [key = keys[0], ...others] = given
    const other = others.find(name => this.take(name) !== this.take(key))
    if (other === undefined) return key
    const [value, another] = [key, other].map(name => show(this.take(name)))
    throw this.bad(`${key} is ${value}, but ${other}, which means the same, is ${another}`)
  }

  only(key: string, accepted: readonly unknown[]): void {
    const value = this.take(key)
    if (value === undefined || accepted.includes(value)) return
    throw this.bad(`${key} is ${show(value)}, expected ${accepted.map(show).join(' or ')}`)
  }

  /** Python takes null for false, whatever the default is. */
  boolean(key: string, absent: boolean): boolean {
    const value = this.take(key)
    if (value === undefined) return absent
    if (value === null) return false
    if (typeof value !== 'boolean')
      throw this.bad(`${key} is ${show(value)}, expected true or false`)
    return value
  }

  number(
    key: string,
    absent: number,
    { from = -Infinity, above = -Infinity, to = Infinity }: Range,
  ): number {
    const value = this.take(key)
    if (value === undefined) return absent
    if (
      typeof value === 'number' &&
      Number.isFinite(value) &&
      value >= from &&
      value > above &&
      value <= to
    ) {
      return value
    }
    const bounds = [
      ...(above > -Infinity ? [` above ${above}`] : []),
      ...(from > -Infinity ? [` from ${from}`] : []),
      ...(to < Infinity ? [` to ${to}`] : []),
    ]
    throw this.bad(`${key} is ${show(value)}, expected a number${bounds.join('')}`)
  }

  integer(key: string, absent: number, { from }: { from: number }): number {
    const value = this.number(key, absent, { from, to: INT32_MAX })
    if (!Number.isInteger(value)) throw this.bad(`${key} is ${show(value)}, expected an integer`)
    return value
  }

  /** An integer from 1. */
  size(key: string, absent: number): number {
    return this.integer(key, absent, { from: 1 })
  }

  integerOrNull(key: string, range: { from: number }): number | null {
    return (this.take(key) ?? null) === null ? null : this.integer(key, 0, range)
  }

  /** Negative ids are an old way to write "none". */
  tokenId(key: string, absent: number | null): number | null {
    const value = this.take(key)
    if (value === undefined) return absent
    if (value === null) return null
    const id = this.integer(key, 0, { from: -INT32_MAX })
    return id < 0 ? null : id
  }

  tokenIds(key: string, absent: readonly number[]): readonly number[] {
    const value = this.take(key)
    if (value === undefined) return absent
    const list: unknown[] = Array.isArray(value) ? value : value === null ? [] : [value]
    if (list.every(id => Number.isInteger(id) && Math.abs(id as number) <= INT32_MAX)) {
      return (list as number[]).filter(id => id >= 0)
    }
    throw this.bad(`${key} is ${show(value)}, expected a token id or a list of them`)
  }

  /** A list of integers from 0. */
  integers(key: string, absent: readonly number[]): readonly number[] {
    const value = this.take(key)
    if (value === undefined) return absent
    const isList = Array.isArray(value) && value.every(i => Number.isInteger(i) && i >= 0)
    if (isList && value.every(i => i <= INT32_MAX)) return value
    throw this.bad(`${key} is ${show(value)}, expected a list of integers from 0`)
  }

  /**
   * The fields of an object; undefined if the key is absent or null, or, as Python takes it, if the
   * object is empty. Messages name the key.
   */
  inner(key: string): Fields | undefined {
    const value = this.take(key) ?? undefined
    if (value === undefined) return undefined
    if (!isObject(value)) throw this.bad(`${key} is ${show(value)}, expected an object`)
    if (Object.keys(value).length === 0) return undefined
    return new Fields(value, `${this.where}: ${key}`)
  }

  refuseUnread(ignored: readonly string[]): void {
    const unknown = Object.keys(this.object).filter(
      key => !this.read.has(key) && !ignored.includes(key),
    )
    if (unknown.length === 0) return
    throw this.bad(
      `unknown ${unknown.length === 1 ? 'key' : 'keys'} ${unknown.slice(0, 8).map(show).join(', ')}: ` +
        'its effect on the model is unknown, so results could be wrong',
    )
  }
}
