/** The KV cache of a chat in a file: a long conversation goes on without being computed again. */

import { stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Model } from '../generation/model.js'
import type { Conversation } from './conversation.js'
import { UsageError } from './errors.js'
import { formatBytes, formatNumber } from './format.js'
import type { Terminal } from './terminal.js'

export interface StateParts {
  readonly terminal: Terminal
  readonly model: Pick<Model, 'saveState' | 'loadState'>
  readonly conversation: Conversation
  readonly signal: AbortSignal
}

/** Finds out before the chat, not after it, that `file` has no folder. */
export async function checkStateFile(file: string): Promise<void> {
  const folder = dirname(file)
  const isFolder = await stat(folder).then(
    found => found.isDirectory(),
    () => false,
  )
  if (!isFolder) throw new UsageError(`--save-state: ${folder}: no such folder`)
}

/** @throws as Model.loadState */
export async function loadState(file: string, { terminal, model, signal }: StateParts) {
  const { tokens } = await model.loadState(file, { signal })
  terminal.note(`${formatNumber(tokens, 'token')} of ${file} in the KV cache`)
}

/** @throws as Model.saveState */
export async function saveState(
  file: string,
  { terminal, model, conversation, signal }: StateParts,
): Promise<void> {
  const { prompt, settings } = conversation
  if (prompt.length === 0) {
    terminal.note(`no message, no state: ${file} is not written`)
    return
  }
  const { tools = [], toolChoice, templateName, templateVariables } = settings
  const chat = {
    tools: toolChoice === 'none' ? [] : tools,
    ...(templateName !== undefined && { templateName }),
    ...(templateVariables && { templateVariables }),
  }
  const { tokens, bytes } = await model.saveState(file, prompt, { chat, signal })
  terminal.note(`${formatNumber(tokens, 'token')} saved in ${file} (${formatBytes(bytes)})`)
}
