/** A call of a tool as a model writes it: JSON with a name and arguments. */
import { isObject } from '../base/json.js'
import { type ToolCall, templateMessages } from '../template/messages.js'
import { PlainCopier } from '../template/plain-data.js'

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
  if (!isObject(call) || typeof call.name !== 'string' || call.name === '')
    return invalid(text, 'it has no name')
  const { name } = call
  // Some models write parameters. Nothing but a name is a call without any.
  const given = call.arguments ?? call.parameters ?? (Object.keys(call).length > 1 ? null : {})
  if (!isObject(given)) return invalid(text, 'its arguments are not an object')
  const parsed = { name: name as string, arguments: given }
  try {
    // A later turn must be able to tell of it.
    templateMessages([{ role: 'assistant', toolCalls: [parsed] }], new PlainCopier())
  } catch (error) {
    return invalid(text, (error as Error).message.replace(PLACE, ''))
  }
  return parsed
}

/** Of the message that a call is tried in. */
const PLACE = /^messages\[0\]\.tool_calls\[0\]\.function\./

/** The name and the arguments' text, if they can be told. */
function invalid(text: string, reason: string): ToolCall {
  const [, name] = /"name"\s*:\s*"((?:[^"\\]|\\.)*)"/.exec(text) ?? []
  const at = /"arguments"\s*:\s*/.exec(text)
  const rest = at ? text.slice(at.index + at[0].length).replace(/\}\s*$/, '') : text
  return { name: name ?? '', arguments: rest.trim(), invalid: reason }
}
