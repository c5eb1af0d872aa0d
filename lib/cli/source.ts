/** A model as commands take it: a directory, or a hub id with the options of the hub. */

import { type Command, Option } from 'commander'
import { resolveSource } from '../hub/source.js'
import { type LoadProgress, resolveLoadOptions } from '../options/generate.js'
import { checkUsage } from './errors.js'
import type { Progress } from './progress.js'

export const MODEL_ARGUMENT =
  'a directory, an installed package (npm:name), or a hub id (hf:owner/name) or URL to download'

export interface HubFlags {
  readonly revision?: string
  readonly token?: string
  readonly endpoint?: string
  readonly cacheDir?: string
}

export function addHubOptions(command: Command): Command {
  const options = [
    new Option('--revision <name>', 'branch, tag or commit on the hub (default: main)'),
    new Option('--token <token>', 'access token of the hub (default: HF_TOKEN)'),
    new Option('--endpoint <url>', 'address of the hub (default: HF_ENDPOINT)'),
    new Option('--cache-dir <directory>', 'folder for downloads (default: HF_HUB_CACHE)'),
  ]
  for (const option of options) command.addOption(option.helpGroup('Hub options:'))
  return command
}

/** The directory of the model, downloaded if need be. */
export async function modelDirectory(
  source: string,
  { revision, token, endpoint, cacheDir }: HubFlags,
  progress: Progress,
  signal: AbortSignal,
): Promise<string> {
  const options = checkUsage(() =>
    resolveLoadOptions({
      ...defined({ revision, token, endpoint, cacheDir }),
      onProgress: showProgress(progress),
      signal,
    }),
  )
  try {
    return await resolveSource(source, options)
  } finally {
    progress.stop()
  }
}

const STAGES = { download: 'Downloading', verify: 'Checking', load: 'Loading' } as const

export function showProgress(progress: Progress): (state: LoadProgress) => void {
  return state => {
    const file = state.stage === 'load' ? '' : state.file
    progress.update(STAGES[state.stage], state.doneBytes, state.totalBytes, file)
  }
}

/** Without the keys that are undefined. */
export function defined<T extends object>(options: T): { [K in keyof T]?: NonNullable<T[K]> } {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: NonNullable<T[K]>
  }
}
