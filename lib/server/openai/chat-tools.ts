/** The tools of a chat's request, and the choice among them. */
import { isObject, show } from '../../base/json.js'
import { text } from '../../base/option-checks.js'
import type { ToolChoice } from '../../chat/chat-options.js'
import type { ChatTool } from '../../template/messages.js'
import { badField } from '../errors.js'
import { checkNames } from './fields.js'

/** A tool that is a function: there is no other kind here. */
export type FunctionTool = ChatTool & { readonly function: { readonly name: string } }

/** As in OpenAI's API. */
const MOST_TOOLS = 128

export function toolsField(value: unknown, name: string): readonly FunctionTool[] {
  if (!Array.isArray(value)) throw badField(name, `expected a list of tools, got ${show(value)}`)
  if (value.length > MOST_TOOLS)
    throw badField(name, `expected at most ${MOST_TOOLS} tools, got ${value.length}`)
  return value.map((tool, i) => toolOf(tool, `${name}[${i}]`))
}

function toolOf(tool: unknown, place: string): FunctionTool {
  if (!isObject(tool)) throw badField(place, `expected an object, got ${show(tool)}`)
  checkType(tool.type, place)
  checkNames(tool, ['type', 'function'], `${place}.`)
  const { function: described } = tool
  if (!isObject(described))
    throw badField(`${place}.function`, `expected an object, got ${show(described)}`)
  const at = `${place}.function`
  checkNames(described, ['name', 'description', 'parameters', 'strict'], `${at}.`)
  const given = Object.entries(described).filter(([, value]) => value !== null)
  const { parameters, description } = described
  if ((parameters ?? null) !== null && !isObject(parameters))
    throw badField(`${at}.parameters`, `expected an object, got ${show(parameters)}`)
  if ((description ?? null) !== null && typeof description !== 'string')
    throw badField(`${at}.description`, `expected a text, got ${show(description)}`)
  const name = text(described.name, `${at}.name`)
  return { type: 'function', function: { ...Object.fromEntries(given), name } }
}

function checkType(type: unknown, place: string): void {
  if (type !== 'function')
    throw badField(`${place}.type`, `only "function" is supported, got ${show(type)}`)
}

export function toolChoiceField(value: unknown, name: string): ToolChoice {
  if (value === 'none' || value === 'auto' || value === 'required') return value
  if (!isObject(value)) {
    const expected = 'expected "none", "auto", "required" or a function'
    throw badField(name, `${expected}, got ${show(value)}`)
  }
  checkType(value.type, name)
  const { function: named } = value
  if (!isObject(named)) throw badField(`${name}.function`, `expected an object, got ${show(named)}`)
  return { name: text(named.name, `${name}.function.name`) }
}

/** @throws RequestError 400 if the choice is none of the tools */
export function checkToolChoice(
  choice: ToolChoice | undefined,
  tools: readonly FunctionTool[],
): void {
  if (choice === 'required' && tools.length === 0)
    throw badField('tool_choice', '"required" needs tools, got none')
  if (typeof choice !== 'object') return
  const names = tools.map(tool => tool.function.name)
  if (!names.includes(choice.name))
    throw badField(
      'tool_choice.function.name',
      `expected one of ${show(names)}, got ${show(choice.name)}`,
    )
}
