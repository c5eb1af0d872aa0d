/** A call of a tool as a model writes it: JSON with a name and arguments. */
import { isObject } from '../base/json.js'
import type { ToolCall } from '../template/messages.js'

/**
 * The call that `text`, between its marks, stands for. One that is no such JSON is marked `invalid`
 * and keeps its text as its arguments.
 * @param problem the reason that it is invalid whatever it says
 */
export function parseToolCall(text: string, problem?: string): ToolCall {
  if (problem !== undefined) return invalid(text, problem)
  let call: unknown
  try {
    call = JSON.parse(text)
  } catch (error) {
    return invalid(text, `it is not JSON: ${(error as Error).message}`)
  }
  const { name, arguments: given = {} } = isObject(call) ? call : {}
  if (typeof name !== 'string') return invalid(text, 'it has no name')
  if (isObject(given)) return { name, arguments: given }
  return { name, arguments: JSON.stringify(given), invalid: 'its arguments are not an object' }
}

/** The name and the arguments' text, if they can be told. */
function invalid(text: string, reason: string): ToolCall {
  const [, name] = /"name"\s*:\s*"((?:[^"\\]|\\.)*)"/.exec(text) ?? []
  const at = /"arguments"\s*:\s*/.exec(text)
  const rest = at ? text.slice(at.index + at[0].length).replace(/\}\s*$/, '') : text
  return { name: name ?? '', arguments: rest.trim(), invalid: reason }
}
