/** Bodies of requests, from the settings. */

/** Numbers that have the same name in the form, in completions and in chats. */
export const NUMBERS = [
  'temperature',
  'top_p',
  'top_k',
  'min_p',
  'seed',
  'presence_penalty',
  'frequency_penalty',
  'repetition_penalty',
] as const

/** Alternatives of each token that are asked for. */
const ALTERNATIVES = 5

/** A number that is undefined is the server's to choose. */
export type Settings = {
  readonly [name in (typeof NUMBERS)[number]]?: number | undefined
} & {
  readonly maxTokens?: number | undefined
  readonly stop: readonly string[]
  readonly system: string
  /** True: probabilities of the tokens are asked for. */
  readonly probabilities: boolean
  /** True: their FFN experts are. */
  readonly experts: boolean
}

export interface Message {
  readonly role: 'system' | 'user' | 'assistant'
  readonly content: string
}

export type Body = Readonly<Record<string, unknown>>

/** Stop strings, one a line; `\n`, `\t`, `\r` and `\\` stand for the characters. */
export function stopStrings(text: string): string[] {
  const characters: Readonly<Record<string, string>> = { n: '\n', t: '\t', r: '\r', '\\': '\\' }
  return text
    .split('\n')
    .filter(line => line !== '')
    .map(line => line.replace(/\\([ntr\\])/g, (_, name: string) => characters[name]!))
}

export function completionBody(model: string, prompt: string, settings: Settings): Body {
  return {
    ...common(model, settings),
    prompt,
    max_tokens: settings.maxTokens,
    logprobs: alternatives(settings),
  }
}

export function chatBody(model: string, messages: readonly Message[], settings: Settings): Body {
  const { system } = settings
  const top = alternatives(settings)
  return {
    ...common(model, settings),
    messages: system === '' ? messages : [{ role: 'system', content: system }, ...messages],
    max_completion_tokens: settings.maxTokens,
    ...(top !== undefined && { logprobs: true, top_logprobs: top }),
  }
}

/** FFN experts are of tokens, and log-probabilities say where one ends. */
function alternatives({ probabilities, experts }: Settings): number | undefined {
  if (probabilities) return ALTERNATIVES
  return experts ? 0 : undefined
}

function common(model: string, settings: Settings): Body {
  return {
    model,
    ...Object.fromEntries(NUMBERS.map(name => [name, settings[name]])),
    stop: settings.stop.length > 0 ? settings.stop : undefined,
    stream: true,
    stream_options: { include_usage: true },
    return_routing: settings.experts || undefined,
  }
}
