/** A checkpoint with a tokenizer.model of a few pieces. */
import type t from 'tap'
import { basePieces, normal, writeModel } from './model-proto.js'

const pieces = [
  ...basePieces,
  normal('\u2581'),
  normal('a'),
  normal('b'),
  normal('\u2581a'),
  normal('ab', -1),
]
export const model = Buffer.from(writeModel({ pieces: [...pieces, { text: '<|u|>', type: 4 }] }))

export type Files = Record<string, string | Buffer | object>

/** A directory with tokenizer.model and these files; an object is written as JSON. */
export function checkpoint(t: Tap, files: Files = {}): string {
  const written = Object.entries({ 'tokenizer.model': model, ...files }).map(([name, content]) => [
    name,
    typeof content === 'string' || Buffer.isBuffer(content) ? content : JSON.stringify(content),
  ])
  return t.testdir(Object.fromEntries(written))
}

type Tap = Pick<typeof t, 'testdir'>
