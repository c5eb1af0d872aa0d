/** The thread that renders chat templates. They are untrusted: chat-template.ts sets the limits. */
import { parse, tokenize } from '@huggingface/jinja'
import { serve } from '../base/worker-side.js'
import { Refusal, templateScope } from './globals.js'
import { Interpreter, type Node } from './interpreter.js'
import type { Plain } from './plain-data.js'
import { strOf } from './printing.js'

export type Variables = Readonly<Record<string, Plain | undefined>>

export interface RenderRequest {
  readonly source: string
  /** Of each text to render. */
  readonly variables: readonly Variables[]
}

export type RenderReply =
  | { readonly texts: readonly string[] }
  /** The template called raise_exception. */
  | { readonly refusal: string }
  | { readonly failure: string }

/** Parsed templates by their source, the latest last. */
const parsed = new Map<string, Node>()
const MOST_PARSED = 16

serve(({ source, variables }: RenderRequest): RenderReply => {
  try {
    return { texts: variables.map(each => render(program(source), each)) }
  } catch (error) {
    const { message } = error as Error
    return error instanceof Refusal ? { refusal: message } : { failure: message }
  }
})

function render(template: Node, variables: Variables): string {
  const scope = templateScope(variables)
  return strOf(new Interpreter(scope).evaluate(template, scope))
}

function program(source: string): Node {
  const known = parsed.get(source)
  parsed.delete(source)
  // As Jinja does, which knows one kind of line's end.
  const lines = source.replaceAll(/\r\n?/g, '\n')
  const options = { lstrip_blocks: true, trim_blocks: true }
  const template = known ?? (parse(tokenize(lines, options)) as unknown as Node)
  parsed.set(source, template)
  for (const oldest of parsed.keys()) {
    if (parsed.size <= MOST_PARSED) break
    parsed.delete(oldest)
  }
  return template
}
