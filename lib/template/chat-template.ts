/** A checkpoint's chat templates: they turn a conversation into the model's prompt. */
import { packageRoot } from '../addon/addon-file.js'
import { GuardedWorker, WorkerFault } from '../base/guarded-worker.js'
import { isObject, printable, show } from '../base/json.js'
import { boolean, text } from '../base/option-checks.js'
import { MoeppError } from '../errors.js'
import { type ChatMessage, type ChatTool, templateMessages, templateTools } from './messages.js'
import { type Plain, PlainCopier, type PlainObject } from './plain-data.js'
import type { RenderReply, RenderRequest, Variables } from './template-worker.js'

/**
 * Options of `Tokenizer.applyChatTemplate`. All but these three are variables of the template, by
 * their own names: `enable_thinking` or `documents`, say.
 *
 * @example
 * ```ts
 * import type { ChatTemplateOptions } from 'moepp'
 *
 * const options: ChatTemplateOptions = { addGenerationPrompt: true, enable_thinking: false }
 * console.log(options)
 * ```
 */
export interface ChatTemplateOptions {
  /** Tools that the model may call. */
  readonly tools?: readonly ChatTool[] | undefined
  /** End with the beginning of the assistant's next message. Default false. */
  readonly addGenerationPrompt?: boolean | undefined
  /**
   * The template, of a checkpoint that has several. Default: tool_use if tools are given and there
   * is one of that name, else default.
   */
  readonly templateName?: string | undefined
  readonly [variable: string]: unknown
}

/** A conversation to render. */
export interface Rendering {
  readonly messages: readonly ChatMessage[]
  readonly options?: ChatTemplateOptions
}

export interface TemplateSource {
  /** The names of a checkpoint's templates, and their text. */
  readonly templates: ReadonlyMap<string, string>
  /** The file or folder that they come from, for errors. */
  readonly file: string
  /** Special tokens by the names that templates know: bos_token, eos_token and others. */
  readonly tokens: Variables
}

/** Real ones stay below 100 kB. */
const MOST_SOURCE = 1_000_000
/** Of one round trip to the thread, which may have to start. A real template takes 5 ms. */
const DEADLINE_MS = 5_000
const MEMORY_MEGABYTES = 256
/** A refusal's words are a sentence. */
const MOST_WORDS = 500

let worker: GuardedWorker<RenderRequest, RenderReply> | undefined

/**
 * One thread for all templates. It starts with the first, and keeps no process alive.
 * @throws MoeppError ERR_NO_BINDING in a bundle, which lacks the thread's file
 */
function sharedWorker(): GuardedWorker<RenderRequest, RenderReply> {
  if (worker) return worker
  packageRoot()
  worker = new GuardedWorker({
    file: new URL('./template-worker.js', import.meta.url),
    memoryMegabytes: MEMORY_MEGABYTES,
  })
  return worker
}

export class ChatTemplate {
  readonly #source: TemplateSource
  readonly #deadlineMs: number

  constructor(source: TemplateSource, deadlineMs = DEADLINE_MS) {
    this.#source = source
    this.#deadlineMs = deadlineMs
  }

  /** The names of the templates, and their text. */
  get templates(): ReadonlyMap<string, string> {
    return this.#source.templates
  }

  /** Special tokens by the names that templates know. */
  get tokens(): Variables {
    return this.#source.tokens
  }

  /** The text of a conversation. */
  async render(
    messages: readonly ChatMessage[],
    options: ChatTemplateOptions = {},
  ): Promise<string> {
    const [rendered] = await this.renderEach([{ messages, options }])
    return rendered!
  }

  /**
   * The texts of conversations, in one round trip to the thread. All must use one template.
   * @throws TypeError or RangeError for messages and options; MoeppError ERR_BAD_TEMPLATE
   */
  async renderEach(renderings: readonly Rendering[]): Promise<readonly string[]> {
    const sources = new Set(renderings.map(({ options = {} }) => this.#choose(options)))
    const [name] = sources
    if (name === undefined) return []
    if (sources.size > 1) throw new TypeError('renderings: expected one template for all')
    const variables = renderings.map(({ messages, options = {} }) =>
      templateVariables(messages, options, this.#source.tokens),
    )
    return this.#run(name, { source: this.templates.get(name)!, variables })
  }

  /** As transformers' get_chat_template. */
  #choose(options: ChatTemplateOptions): string {
    if (!isObject(options)) throw new TypeError(`options: expected an object, got ${show(options)}`)
    const { templateName, tools } = options
    const { templates, file } = this.#source
    if (templateName !== undefined) text(templateName, 'templateName')
    const inTools =
      (tools ?? undefined) !== undefined && templates.has('tool_use') ? 'tool_use' : 'default'
    const name = templateName ?? inTools
    if (templates.has(name)) return name
    const names = [...templates.keys()].map(show).join(', ')
    if (templateName !== undefined)
      throw new RangeError(`templateName: expected one of ${names}, got ${show(templateName)}`)
    const message = `${printable(file)}: has no default chat template. Set templateName: ${names}`
    throw new MoeppError('ERR_NO_CHAT_TEMPLATE', message)
  }

  async #run(name: string, request: RenderRequest): Promise<readonly string[]> {
    if (request.source.length > MOST_SOURCE)
      throw this.#bad(name, `is longer than ${MOST_SOURCE} characters`)
    const reply = await this.#reply(name, request)
    if ('texts' in reply) return reply.texts
    if ('refusal' in reply) throw this.#bad(name, `refuses the messages: ${words(reply.refusal)}`)
    throw this.#bad(name, `failed: ${words(reply.failure)}`)
  }

  async #reply(name: string, request: RenderRequest): Promise<RenderReply> {
    const thread = sharedWorker()
    try {
      return await thread.call(request, this.#deadlineMs)
    } catch (error) {
      throw this.#bad(name, faultText(error as Error, this.#deadlineMs), error)
    }
  }

  #bad(name: string, problem: string, cause?: unknown): MoeppError {
    const which = this.templates.size > 1 ? ` ${show(name)}` : ''
    const message = `${printable(this.#source.file)}: the chat template${which} ${problem}`
    return new MoeppError('ERR_BAD_TEMPLATE', message, { cause })
  }
}

function faultText(error: Error, deadlineMs: number): string {
  const reason = error instanceof WorkerFault ? error.reason : 'crash'
  if (reason === 'time') return `was ended: it took longer than ${deadlineMs} ms`
  if (reason === 'memory') return `was ended: it took more than ${MEMORY_MEGABYTES} MB of memory`
  return `ended its thread: ${words(error.message)}`
}

/** A template's words, fit for a terminal. */
function words(message: string): string {
  return printable(message.length > MOST_WORDS ? `${message.slice(0, MOST_WORDS)}...` : message)
}

/** The variables of transformers' apply_chat_template. The caller's own win. */
function templateVariables(
  messages: readonly ChatMessage[],
  options: ChatTemplateOptions,
  tokens: Variables,
): Variables {
  const { tools, addGenerationPrompt, templateName: _, ...rest } = options
  if (rest.messages !== undefined)
    throw new TypeError('options.messages: expected none, the messages are the first argument')
  const copier = new PlainCopier()
  const prompt = generationPrompt(addGenerationPrompt, rest.add_generation_prompt)
  return {
    ...tokens,
    documents: null,
    ...(copier.copy(rest, 'options') as PlainObject),
    messages: templateMessages(messages, copier),
    tools: tools === undefined || tools === null ? null : templateTools(tools, copier),
    add_generation_prompt: prompt,
  }
}

/** The option by moepp's name or the template's. */
function generationPrompt(ours: unknown, theirs: unknown): Plain {
  if (ours !== undefined && theirs !== undefined)
    throw new TypeError('addGenerationPrompt: got add_generation_prompt too, which means the same')
  const given = ours ?? theirs
  return given === undefined ? false : boolean(given, 'addGenerationPrompt')
}
