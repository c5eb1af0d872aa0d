/** `moepp convert`: writes a checkpoint as one safetensors directory. */

import { Command, InvalidArgumentError, Option } from 'commander'
import {
  type ConvertOptions,
  convertCheckpoint,
  DEFAULT_SHARD_BYTES,
} from '../checkpoint/convert.js'
import { type CreateCommand, runWork } from './command.js'
import { formatBytes } from './format.js'
import { addHubOptions, type HubFlags, MODEL_ARGUMENT, modelDirectory } from './source.js'

interface ConvertFlags extends HubFlags {
  readonly dtype: NonNullable<ConvertOptions['dtype']>
  readonly maxShardSize: number
  readonly force?: true
}

export const convertCommand: CreateCommand = (output, setExitCode) => {
  const dtype = new Option(
    '--dtype <type>',
    'type of the matrices; norms, router and constants keep theirs, but with float32. int8 and int4 (FFN experts; the rest int8) are packed for the CPU and open at once',
  )
  const command = new Command('convert')
    .description(
      'Writes any supported checkpoint as one safetensors directory with tokenizer.json. The directory appears whole or not at all.',
    )
    .argument('<model>', MODEL_ARGUMENT)
    .argument('<out-dir>', 'the directory to make')
    .addOption(dtype.choices(['auto', 'float32', 'bfloat16', 'int8', 'int4']).default('auto'))
    .option(
      '--max-shard-size <size>',
      'split larger checkpoints into files of at most this size (500MB, 5GB, 4GiB)',
      parseSize,
      DEFAULT_SHARD_BYTES,
    )
    .option(
      '--force',
      'replace what an earlier conversion wrote there; refused where other files lie beside it',
    )
    .addHelpText('after', EXAMPLES)
    .action((model: string, target: string, flags: ConvertFlags) =>
      runWork(output, setExitCode, async ({ progress, interrupt }) => {
        const directory = await modelDirectory(model, flags, progress, interrupt.signal)
        const result = await convertCheckpoint(directory, target, {
          dtype: flags.dtype,
          maxShardBytes: flags.maxShardSize,
          force: flags.force === true,
          signal: interrupt.signal,
          onProgress: (done, total) => progress.update('Converting', done, total),
        })
        progress.stop()
        const weights = `${result.tensors} tensors, ${formatBytes(result.weightBytes)}`
        await output.write(`${result.directory}: ${result.files.length} files, ${weights}\n`)
        if (result.leftOut.length > 0) {
          await output.write(`left out, no part of the model: ${result.leftOut.join(', ')}\n`)
        }
      }),
    )
  return addHubOptions(command)
}

const EXAMPLES = `
Examples:
  $ moepp convert models/books-7m ./books
  $ moepp convert Chat-UniVi/MoE-Plus-Plus-7B ./moepp-7b --dtype bfloat16 --max-shard-size 2GB
  $ moepp convert Chat-UniVi/MoE-Plus-Plus-7B ./moepp-7b-int8 --dtype int8
`

const UNITS: ReadonlyMap<string, number> = new Map([
  ['', 1],
  ...['k', 'm', 'g', 't'].flatMap((letter, i): [string, number][] => [
    [`${letter}b`, 1000 ** (i + 1)],
    [`${letter}ib`, 1024 ** (i + 1)],
  ]),
])

/** `5GB`, `4GiB`, or bytes. */
function parseSize(text: string): number {
  const [, number, unit] = /^(\d+(?:\.\d+)?)\s*([kmgt]i?b)?$/i.exec(text.trim()) ?? []
  const bytes = Math.floor(Number(number) * UNITS.get((unit ?? '').toLowerCase())!)
  if (Number.isSafeInteger(bytes) && bytes >= 1) return bytes
  throw new InvalidArgumentError('Expected a size like 500MB, 5GB or 4GiB.')
}
