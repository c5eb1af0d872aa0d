/** Errors of the library in the words of a request: it names options, and clients know fields. */
import { MoeppError, type MoeppErrorCode } from '../../errors.js'
import { badField, promptTooLong } from '../errors.js'

/** Fields with other names than the options that they become. */
const FIELDS: Readonly<Record<string, string>> = {
  maxNewTokens: 'max_tokens',
  minNewTokens: 'min_tokens',
  noRepeatNgramSize: 'no_repeat_ngram_size',
  logitBias: 'logit_bias',
  templateVariables: 'chat_template_kwargs',
  toolChoice: 'tool_choice',
}

/** Codes whose messages begin with the option that is at fault. */
const OF_OPTIONS: readonly MoeppErrorCode[] = [
  'ERR_BAD_GRAMMAR',
  'ERR_BAD_PROMPT',
  'ERR_UNSUPPORTED',
]

/**
 * An error of a call as the request's own, if a field is at fault; else the error itself.
 * `grammarPlace` is the field that the grammar comes from.
 */
export function inFields(error: unknown, grammarPlace = 'response_format'): unknown {
  const isArgument = error instanceof TypeError || error instanceof RangeError
  const isOption = error instanceof MoeppError && OF_OPTIONS.includes(error.code)
  if (!isArgument && !isOption) return error
  const [, options, problem] = /^([\w$.,[\] -]+?): (.*)$/s.exec(error.message) ?? []
  // Anything else is no check of an option, but a fault.
  if (options === undefined || !/^[\w$.[\]-]+(, [\w$.[\]-]+)*$/.test(options)) return error
  const param = options
    .replace(/^grammar(\.\w+)?/, grammarPlace)
    .replace(/\w+/g, name => FIELDS[name] ?? name)
  const { tokens } = error as MoeppError
  return tokens ? promptTooLong(`${param}: ${problem}`, tokens, param) : badField(param, problem!)
}
