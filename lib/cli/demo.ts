/** `moepp demo`: a text from the small model that npm installs. */

import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { Command } from 'commander'
import { findPackageRoot } from '../addon/addon-file.js'
import { MoeppError } from '../errors.js'
import { NPM_PREFIX, npmModelDirectory } from '../hub/npm-model.js'
import { loadModel } from '../load/load.js'
import { type CreateCommand, runWork, type Work } from './command.js'
import { figuresLine } from './generate-report.js'
import { showProgress } from './source.js'
import type { Terminal } from './terminal.js'

const PACKAGE = 'moepp-books-7m'
const DEFAULT_PROMPT = 'The old man'
const OPTIONS = { temperature: 0.8, maxNewTokens: 128, routing: true } as const

export const demoCommand: CreateCommand = (output, setExitCode) =>
  new Command('demo')
    .description(`Continues a prompt with ${PACKAGE}, a small model trained on old books.`)
    .argument('[prompt]', `the text to continue (default: "${DEFAULT_PROMPT}")`)
    .addHelpText('after', `\nThe model is a package of its own:\n  $ npm install ${PACKAGE}\n`)
    .action((prompt: string | undefined) =>
      runWork(output, setExitCode, work => demo(prompt ?? DEFAULT_PROMPT, output, work)),
    )

async function demo(
  prompt: string,
  output: Terminal,
  { progress, interrupt }: Work,
): Promise<void> {
  const signal = AbortSignal.any([interrupt.signal, output.closed])
  await using model = await loadModel(demoModel(), { signal, onProgress: showProgress(progress) })
  progress.stop()
  const stream = model.stream(prompt, { ...OPTIONS, signal })
  await output.write(prompt)
  for await (const { text } of stream) await output.write(text)
  await output.write('\n')
  const figures = figuresLine([await stream.result], model.config)
  await output.flush()
  if (!output.closed.aborted) output.figures(figures)
}

/** The installed package, or the folder that it is made of: a checkout has that. */
function demoModel(): string {
  const root = findPackageRoot()
  const folder = root && join(root, 'models', 'books-7m')
  if (folder && existsSync(folder)) return folder
  try {
    npmModelDirectory(PACKAGE)
  } catch (error) {
    if (!(error instanceof MoeppError)) throw error
    throw new Error(`the demo needs its model: npm install ${PACKAGE}`, { cause: error })
  }
  return `${NPM_PREFIX}${PACKAGE}`
}
