/** The options of `chat` and `streamChat` that `generate` does not have. */
import { isObject, show } from '../base/json.js'
import { text, unknownOption, wrong } from '../base/option-checks.js'
import { GENERATE_OPTIONS, type GenerateOptions } from '../options/generate.js'
import { type ChatTool, templateTools } from '../template/messages.js'
import { PlainCopier, type PlainObject } from '../template/plain-data.js'

/**
 * The tools that the model may or must call. `auto`: as it likes. `none`: it is told of none.
 * `required`: it calls one or more. A name: it calls that one, once.
 *
 * @example
 * ```ts
 * import type { ToolChoice } from 'moepp'
 *
 * const choices: ToolChoice[] = ['auto', 'none', 'required', { name: 'weather' }]
 * console.log(choices.length)
 * ```
 */
export type ToolChoice =
  | 'auto'
  | 'none'
  | 'required'
  | {
      /** Of one of the tools. */
      readonly name: string
    }

/**
 * Options of a conversation's template.
 *
 * @example
 * ```ts
 * import type { TemplateOptions } from 'moepp'
 *
 * const options: TemplateOptions = { templateVariables: { enable_thinking: false } }
 * console.log(options)
 * ```
 */
export interface TemplateOptions {
  /** Tools that the model may call, for the template. Default none. */
  tools?: readonly ChatTool[]
  /** Name of one of the checkpoint's templates, where it has several. */
  templateName?: string
  /** Variables of the template: `{ enable_thinking: false }`. */
  templateVariables?: Readonly<Record<string, unknown>>
}

/**
 * Options of `Model.chat` and `Model.streamChat`: those of the template and of `generate`.
 *
 * @example
 * ```ts
 * import type { ChatOptions } from 'moepp'
 *
 * const options: ChatOptions = {
 *   maxNewTokens: 500,
 *   temperature: 0.7,
 *   templateVariables: { enable_thinking: false },
 * }
 * console.log(options)
 * ```
 */
export interface ChatOptions
  extends TemplateOptions,
    Omit<
      GenerateOptions,
      'maxNewTokens' | 'addSpecialTokens' | 'splitSpecialTokens' | 'numReturnSequences'
    > {
  /** Most tokens to generate, >= 0. Default: as many as the context holds. */
  maxNewTokens?: number
  /**
   * Default `auto`. `required` and a name force calls whose arguments follow the tool's schema, by
   * a grammar. Thoughts may come before them.
   */
  toolChoice?: ToolChoice
}

/** Options of generate that chats do not have. */
export const NOT_OF_CHATS: readonly string[] = [
  'addSpecialTokens',
  'splitSpecialTokens',
  'numReturnSequences',
] satisfies readonly Exclude<keyof GenerateOptions, keyof ChatOptions>[]

const OWN = ['tools', 'toolChoice', 'templateName', 'templateVariables']
const NAMES = [...OWN, ...GENERATE_OPTIONS.filter(name => !NOT_OF_CHATS.includes(name))]

/** Names of a template's variables that chats set. */
const TAKEN = ['messages', 'tools', 'templateName', 'addGenerationPrompt', 'add_generation_prompt']

/** ChatOptions in two parts: for the template, and for the generation. */
export interface SplitOptions {
  /** Empty if the model is to be told of none. */
  readonly tools: readonly ChatTool[]
  readonly toolChoice: ToolChoice
  readonly templateName: string | undefined
  readonly templateVariables: Readonly<Record<string, unknown>>
  readonly generation: GenerateOptions
}

/** @throws TypeError, RangeError */
export function splitChatOptions(options: ChatOptions): SplitOptions {
  if (!isObject(options as unknown))
    throw new TypeError(`options: expected an object, got ${show(options)}`)
  const {
    tools = [],
    toolChoice = 'auto',
    templateName,
    templateVariables,
    ...generation
  } = options
  const unknown = Object.entries(generation).find(
    ([name, value]) => value !== undefined && !NAMES.includes(name),
  )
  if (unknown) throw unknownOption(unknown[0], NAMES)
  const copier = new PlainCopier()
  const copies = templateTools(tools, copier)
  if (templateName !== undefined) text(templateName, 'templateName')
  if (templateVariables !== undefined && !isObject(templateVariables))
    throw new TypeError(`templateVariables: expected an object, got ${show(templateVariables)}`)
  const taken = TAKEN.find(name => Object.hasOwn(templateVariables ?? {}, name))
  if (taken !== undefined)
    throw new TypeError(`templateVariables.${taken}: chats set it themselves`)
  checkChoice(toolChoice, tools)
  return {
    tools: toolChoice === 'none' ? [] : copies,
    toolChoice,
    templateName,
    templateVariables: copier.copy(templateVariables ?? {}, 'templateVariables') as PlainObject,
    generation,
  }
}

function checkChoice(choice: unknown, tools: readonly ChatTool[]): void {
  const isWord = choice === 'auto' || choice === 'none' || choice === 'required'
  if (!isWord && !(isObject(choice) && typeof choice.name === 'string')) {
    throw wrong('toolChoice', "'auto', 'none', 'required' or { name }", choice, 'string')
  }
  if (choice === 'required' && tools.length === 0)
    throw new RangeError('toolChoice: required needs tools, got none')
  if (isWord) return
  const names = tools.map(nameOf)
  if (!names.includes(choice.name as string))
    throw new RangeError(
      `toolChoice.name: expected one of the tools ${show(names)}, got ${show(choice.name)}`,
    )
}

/** The name of a tool in OpenAI's form; undefined in others. */
export function nameOf(tool: ChatTool): string | undefined {
  return functionOf(tool)?.name
}

/** As in OpenAI's API, a function that names no parameters has none. */
const NO_PARAMETERS = { type: 'object', properties: {}, additionalProperties: false }

/** The function of a tool in OpenAI's form. */
export function functionOf(
  tool: ChatTool,
): { name: string; parameters: Readonly<Record<string, unknown>> } | undefined {
  const described: Readonly<Record<string, unknown>> = isObject(tool.function)
    ? tool.function
    : tool
  const { name, parameters } = described
  if (typeof name !== 'string') return undefined
  return { name, parameters: isObject(parameters) ? parameters : NO_PARAMETERS }
}
