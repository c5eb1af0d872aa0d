/** Values of a caller that a template reads: plain data alone, as JSON has it, of bounded size. */
import { show } from '../base/json.js'

/** A value that JSON can say. */
export type Plain = null | boolean | number | string | readonly Plain[] | PlainObject
export interface PlainObject {
  readonly [key: string]: Plain
}

const MAX_DEPTH = 100
const MAX_CHARACTERS = 8_000_000
const MAX_VALUES = 1_000_000

/** Copies values until they are too many. One copier counts for one text of a template. */
export class PlainCopier {
  #characters = 0
  #values = 0

  /**
   * A copy of `value`, without the fields of its objects that are undefined.
   * @param where names the value in errors: `messages[2].content`
   * @throws TypeError for what JSON cannot say, RangeError for too much of it
   */
  copy(value: unknown, where: string): Plain {
    return this.#copy(value, where, [])
  }

  #copy(value: unknown, where: string, parents: readonly object[]): Plain {
    this.#count(where, typeof value === 'string' ? value.length : 0)
    if (value === null || typeof value === 'string' || typeof value === 'boolean') return value
    if (typeof value === 'number' && Number.isFinite(value)) return value
    if (typeof value !== 'object')
      throw new TypeError(`${where}: expected plain data, as JSON has it, got ${show(value)}`)
    if (parents.includes(value))
      throw new TypeError(`${where}: expected plain data, got an object that contains itself`)
    if (parents.length === MAX_DEPTH)
      throw new RangeError(`${where}: nested deeper than ${MAX_DEPTH} levels`)
    const around = [...parents, value]
    if (Array.isArray(value))
      return Array.from(value, (item, i) => this.#copy(item, `${where}[${i}]`, around))
    if (!isPlainObject(value))
      throw new TypeError(`${where}: expected plain data, got an object of a class`)
    return this.#copyFields(value, where, around)
  }

  #copyFields(value: object, where: string, around: readonly object[]): PlainObject {
    const fields: [string, Plain][] = []
    for (const [key, field] of Object.entries(value)) {
      if (field === undefined) continue
      const place = `${where}${/^[\p{L}_$][\p{L}\d_$]*$/u.test(key) ? `.${key}` : `[${show(key)}]`}`
      this.#count(place, key.length)
      fields.push([key, this.#copy(field, place, around)])
    }
    // Defines each key, `__proto__` too, where an assignment would set the prototype.
    return Object.fromEntries(fields)
  }

  #count(where: string, characters: number): void {
    this.#values++
    this.#characters += characters
    if (this.#values > MAX_VALUES)
      throw new RangeError(`${where}: expected at most ${MAX_VALUES} values in all`)
    if (this.#characters > MAX_CHARACTERS)
      throw new RangeError(`${where}: expected at most ${MAX_CHARACTERS} characters in all`)
  }
}

/** An object literal, of another realm perhaps. */
function isPlainObject(value: object): boolean {
  const prototype = Object.getPrototypeOf(value)
  return prototype === null || Object.getPrototypeOf(prototype) === null
}
