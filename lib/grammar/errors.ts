/** Errors of grammars. */
import { MoeppError } from '../errors.js'

export function badGrammar(place: string, problem: string, cause?: unknown): MoeppError {
  return new MoeppError('ERR_BAD_GRAMMAR', `${place}: ${problem}`, { cause })
}
