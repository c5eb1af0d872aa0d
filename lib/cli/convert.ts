/** `moepp convert`: writes a checkpoint as one safetensors directory. */

import { Command, InvalidArgumentError, Option } from 'commander'
import { type ConvertOptions, convertCheckpoint, DEFAULT_SHARD_BYTES } from '../convert/convert.js'
import { MATRIX_TYPES } from '../options/load.js'
import { type CreateCommand, runWork } from './command.js'
import { formatBytes } from './format.js'
import { addHubOptions, type HubFlags, MODEL_ARGUMENT, modelDirectory } from './source.js'

interface ConvertFlags extends HubFlags {
  readonly dtype: NonNullable<ConvertOptions['dtype']>
  readonly maxShardSize: number
  readonly force?: true
}

export const convertCommand: CreateCommand = (terminal, setExitCode) => {
  const dtype = new Option(
    '--dtype <type>',
    'type of the matrices; only float32 converts norms, router and constants too. int8, int4 and int4-all are packed for the CPU, and load at once; int4 is for FFN experts, other matrices are int8, or int4 too with int4-all',
  )
  const command = new Command('convert')
    .description(
      'Writes a checkpoint as one directory with safetensors files and tokenizer.json. After a failure there is no directory.',
    )
    .argument('<model>', MODEL_ARGUMENT)
    .argument('<out-dir>', 'the directory to make')
    .addOption(dtype.choices(['auto', ...MATRIX_TYPES]).default('auto'))
    .addOption(
      new Option('--max-shard-size <size>', 'largest size of a file, from 1MB: 500MB, 5GB, 4GiB')
        .argParser(parseSize)
        .default(DEFAULT_SHARD_BYTES, '5GB'),
    )
    .option(
      '--force',
      'replace the result of an earlier conversion; other files are never replaced',
    )
    .addHelpText('after', EXAMPLES)
    .action((model: string, target: string, flags: ConvertFlags) =>
      runWork(terminal, setExitCode, async ({ progress, interrupt }) => {
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
        await terminal.write(`${result.directory}: ${result.files.length} files, ${weights}\n`)
        if (result.leftOut.length > 0) {
          await terminal.write(`left out, not part of the model: ${result.leftOut.join(', ')}\n`)
        }
      }),
    )
  return addHubOptions(command)
}

const EXAMPLES = `
Examples:
  $ moepp convert npm:moepp-books-7m ./books
  $ moepp convert hf:Chat-UniVi/MoE-Plus-Plus-7B ./moepp-7b --dtype bfloat16 --max-shard-size 2GB
  $ moepp convert hf:Chat-UniVi/MoE-Plus-Plus-7B ./moepp-7b-int8 --dtype int8
`

const UNITS: ReadonlyMap<string, number> = new Map([
  ['', 1],
  ...['k', 'm', 'g', 't'].flatMap((letter, i): [string, number][] => [
    [`${letter}b`, 1000 ** (i + 1)],
    [`${letter}ib`, 1024 ** (i + 1)],
  ]),
])

/** Less is a unit forgotten: `5` would write a file for each tensor. */
const LEAST_SHARD_BYTES = 1e6

/** `5GB`, `4GiB`, or bytes. */
function parseSize(text: string): number {
  const [, number, unit] = /^(\d+(?:\.\d+)?)\s*([kmgt]i?b)?$/i.exec(text.trim()) ?? []
  const bytes = Math.floor(Number(number) * UNITS.get((unit ?? '').toLowerCase())!)
  if (Number.isSafeInteger(bytes) && bytes >= LEAST_SHARD_BYTES) return bytes
  throw new InvalidArgumentError('Expected a size of at least 1MB, like 500MB, 5GB or 4GiB.')
}
