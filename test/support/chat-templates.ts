/** Conversations, and the texts that Python renders them to. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ChatMessage, ChatTool } from '../../lib/index.js'
import { golden, readJson } from './golden.js'

export interface RenderedChat {
  readonly name: string
  readonly messages: ChatMessage[]
  readonly options: {
    add_generation_prompt: boolean
    tools?: ChatTool[]
    enable_thinking?: boolean
  }
  readonly text: string
}

const folder = join(golden, 'families', 'chat_template')
const { cases } = readJson<{ cases: (RenderedChat & { template: string })[] }>(
  join(folder, 'expected.json'),
)

/** Templates, each with its conversations. */
export const TEMPLATES = [...new Set(cases.map(({ template }) => template))].map(name => ({
  name,
  source: readFileSync(join(folder, `${name}.jinja`), 'utf8'),
  chats: cases.filter(({ template }) => template === name) as readonly RenderedChat[],
}))

export const QWEN3_TEMPLATE = TEMPLATES.find(({ name }) => name === 'qwen3')!.source

/** A call of a tool in Qwen3's form. */
export const QWEN3_CALL = {
  open: '<tool_call>',
  close: '</tool_call>',
  beforeName: '\n{"name": "',
  beforeArguments: '", "arguments": ',
  afterArguments: '}\n',
  between: '\n',
}
