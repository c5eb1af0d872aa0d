/** The letters that ranks of a group send each other about texts: plain data. */
import type { ModelStats } from '../engine/stats.js'
import { MoeppError, type MoeppErrorCode } from '../errors.js'
import type { GenerateChunk, GenerateResult } from './results.js'
import type { PortableText } from './text-generation.js'

/** From rank 0. */
export type Order =
  | {
      readonly kind: 'start'
      readonly id: number
      readonly text: PortableText
      /** True if chunks are wanted. */
      readonly tells: boolean
    }
  | { readonly kind: 'cancel'; readonly id: number }

/** To rank 0. */
export type Answer =
  | { readonly kind: 'chunk'; readonly id: number; readonly chunk: GenerateChunk }
  | { readonly kind: 'result'; readonly id: number; readonly result: GenerateResult }
  | { readonly kind: 'failure'; readonly id: number; readonly failure: PlainError }
  | { readonly kind: 'stats'; readonly stats: ModelStats }

interface PlainError {
  readonly name: string
  readonly message: string
  readonly code?: MoeppErrorCode
  readonly op?: string
}

export function plainError(error: unknown): PlainError {
  if (!(error instanceof Error)) return { name: 'Error', message: String(error) }
  const { name, message } = error
  if (!(error instanceof MoeppError)) return { name, message }
  return { name, message, code: error.code, ...(error.op !== undefined && { op: error.op }) }
}

/** The error again. Its stack is that of rank 0. */
export function errorOf({ name, message, code, op }: PlainError): Error {
  if (code) return new MoeppError(code, message, op === undefined ? {} : { op })
  const known: Record<string, ErrorConstructor> = { TypeError, RangeError }
  return new (known[name] ?? Error)(message)
}
