/** The fields of a chat's request, and what they ask for. */
import { isObject, show } from '../../base/json.js'
import { boolean, integer, oneOf } from '../../base/option-checks.js'
import type { ChatOptions } from '../../chat/chat-options.js'
import type { Model } from '../../generation/model.js'
import type { ChatMessage } from '../../template/messages.js'
import { badField } from '../errors.js'
import { inTemplateRoles, messagesField } from './chat-messages.js'
import { checkToolChoice, toolChoiceField, toolsField } from './chat-tools.js'
import { ignored, only, readFields, refused } from './fields.js'
import { grammarOf, type PlacedGrammar } from './grammar-fields.js'
import {
  checkSampling,
  leastOf,
  logprobCount,
  SAMPLING_FIELDS,
  samplingOptions,
} from './sampling-fields.js'

const effort = oneOf('none', 'minimal', 'low', 'medium', 'high', 'xhigh')
type Effort = ReturnType<typeof effort>

/** Every field that is known. docs/serving.md has the same list. */
export const CHAT_FIELDS = {
  ...SAMPLING_FIELDS,
  messages: messagesField,
  max_completion_tokens: integer(0),
  logprobs: boolean,
  top_logprobs: logprobCount,
  tools: toolsField,
  tool_choice: toolChoiceField,
  parallel_tool_calls: only(true),
  reasoning_effort: effort,
  chat_template_kwargs: variables,
  modalities: only(['text']),
  verbosity: only('medium'),
  // Superseded by tools.
  functions: refused,
  function_call: refused,
  audio: refused,
  prediction: refused,
  web_search_options: refused,
  chat_template: refused,
  documents: refused,
  mm_processor_kwargs: refused,
  chat_template_content_format: ignored,
  include_reasoning: only(true),
  add_generation_prompt: only(true),
  continue_final_message: only(false),
  add_special_tokens: only(false),
  echo: only(false),
  best_of: only(1),
}

export interface ChatRequest {
  readonly messages: readonly ChatMessage[]
  /** Choices. */
  readonly n: number
  readonly seed: number | undefined
  readonly stream: boolean
  readonly includeUsage: boolean
  /** True: the answer tells the FFN experts of its tokens. */
  readonly returnRouting: boolean
  readonly promptLogprobs: number | undefined
  /** Further options of each text. */
  readonly options: ChatOptions
  readonly grammar: PlacedGrammar | undefined
}

/** @throws RequestError 400 that names the field */
export function readChat(body: unknown, { config, presets, tokenizer }: Model): ChatRequest {
  const fields = readFields(body, CHAT_FIELDS, config)
  const { messages, n = 1, tools = [], tool_choice, stream = false, top_logprobs } = fields
  const { max_completion_tokens, max_tokens, max_new_tokens } = fields
  const maxTokens = leastOf(max_completion_tokens ?? max_tokens, max_new_tokens)
  checkSampling(fields, maxTokens)
  checkToolChoice(tool_choice, tools)
  if (messages === undefined) throw badField('messages', 'expected a list of messages')
  if (top_logprobs !== undefined && !fields.logprobs)
    throw badField('top_logprobs', 'allowed with logprobs true alone')
  if (fields.prompt_logprobs !== undefined && stream)
    throw badField('prompt_logprobs', 'not allowed with stream')
  const grammar = grammarOf(fields)
  if (grammar && tools.length > 0 && tool_choice !== 'none')
    throw badField(grammar.place, 'not allowed together with tools: a call has no such form')
  const { chatTemplate } = tokenizer
  return {
    messages: inTemplateRoles(messages, chatTemplate),
    n,
    seed: fields.seed,
    stream,
    includeUsage: fields.stream_options?.include_usage ?? false,
    returnRouting: fields.return_routing ?? false,
    promptLogprobs: fields.prompt_logprobs,
    grammar,
    options: {
      ...samplingOptions(fields, presets),
      maxNewTokens: maxTokens,
      tools,
      toolChoice: tool_choice,
      templateVariables: {
        ...effortVariables(fields.reasoning_effort, chatTemplate),
        ...fields.chat_template_kwargs,
      },
      logprobs: fields.logprobs ? (top_logprobs ?? 0) : undefined,
      grammar: grammar?.grammar,
    },
  }
}

function variables(value: unknown, name: string): Readonly<Record<string, unknown>> {
  if (isObject(value)) return value
  throw badField(name, `expected an object, got ${show(value)}`)
}

/** The effort as the template can know it: by its own name, or as thoughts or none. */
function effortVariables(given: Effort | undefined, template = ''): Record<string, unknown> {
  if (given === undefined) return {}
  if (/\breasoning_effort\b/.test(template)) return { reasoning_effort: given }
  if (/\benable_thinking\b/.test(template)) return { enable_thinking: given !== 'none' }
  throw badField('reasoning_effort', 'not supported: the chat template knows no such variable')
}
