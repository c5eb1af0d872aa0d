/** The option `--model`, and its place in the environment. */

import { type Command, Option } from 'commander'
import { UsageError } from './errors.js'
import { MODEL_ARGUMENT } from './source.js'

export function addModelOption(command: Command): Command {
  return command.addOption(new Option('--model <model>', MODEL_ARGUMENT).env('MOEPP_MODEL'))
}

/** An empty MOEPP_MODEL counts as none. */
export function requireModel({ model }: { readonly model?: string }, example: string): string {
  if (model) return model
  throw new UsageError(
    [
      'no model is given: use --model, or set MOEPP_MODEL',
      `  ${example}`,
      'To try moepp without a model of your own: npx moepp demo',
    ].join('\n'),
  )
}
