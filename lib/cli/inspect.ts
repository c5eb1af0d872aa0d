/** `moepp inspect`: prints what a checkpoint is and needs. */

import { Command } from 'commander'
import { type Inspection, inspectCheckpoint, loadDtype } from '../convert/inspect.js'
import { estimateEach } from '../load/load.js'
import type { MemoryEstimate } from '../load/memory-estimate.js'
import { type LoadOptions, type MatrixType, resolveLoadOptions } from '../options/load.js'
import { EXPERT_KINDS } from '../program/expert-kinds.js'
import { PARAMETER_KINDS, type ParameterKind } from '../program/model-spec.js'
import { expertCount } from '../program/moe-ops.js'
import { type CreateCommand, runWork } from './command.js'
import { checkUsage } from './errors.js'
import { formatBytes, formatCount, formatNumber, formatRatio, formatTable } from './format.js'
import { addLoadOptions, loadOptions } from './generate-options.js'
import { addHubOptions, type HubFlags, MODEL_ARGUMENT, modelDirectory } from './source.js'

/** Options of loading that --memory takes. */
const MEMORY_OPTIONS = [
  'device',
  'kvCacheDtype',
  'contextLength',
  'kvCacheTokens',
  'threads',
] as const

interface InspectFlags extends HubFlags, Pick<LoadOptions, (typeof MEMORY_OPTIONS)[number]> {
  readonly tensors?: true
  readonly memory?: true
  readonly json?: true
}

export const inspectCommand: CreateCommand = (output, setExitCode) => {
  const command = new Command('inspect')
    .description(
      'Shows configuration, parameters and memory needs of a checkpoint; reads headers only.',
    )
    .argument('<model>', MODEL_ARGUMENT)
    .option('--tensors', 'list the tensors: name, type, shape, file')
    .option('--memory', 'show the memory that loading needs, by type, and the memory available')
    .option('--json', 'print one JSON document, tensors included')
    .addHelpText('after', EXAMPLES)
    .action((model: string, flags: InspectFlags) =>
      runWork(output, setExitCode, async ({ progress, interrupt }) => {
        const options = memoryOptions(flags)
        const directory = await modelDirectory(model, flags, progress, interrupt.signal)
        const inspection = await inspectCheckpoint(directory)
        const estimates = options && (await estimateAll(directory, inspection, options))
        if (flags.json) await output.writeJson({ ...inspection, ...(estimates && { estimates }) })
        else await output.write(`${describe(inspection, flags.tensors === true, estimates)}\n`)
      }),
    )
  return addHubOptions(addLoadOptions(command, [...MEMORY_OPTIONS]))
}

/** The options of loading to estimate for, if --memory is given. */
function memoryOptions(flags: InspectFlags): LoadOptions | undefined {
  const given = MEMORY_OPTIONS.find(name => flags[name] !== undefined)
  return checkUsage(() => {
    if (!flags.memory) {
      if (given === undefined) return undefined
      throw new TypeError(`${given}: expected together with --memory`)
    }
    const options = Object.fromEntries(
      Object.entries(loadOptions(flags)).filter(([name]) => MEMORY_OPTIONS.some(m => m === name)),
    )
    resolveLoadOptions(options)
    return options
  })
}

function estimateAll(
  directory: string,
  { memory: { weightBytes } }: Inspection,
  options: LoadOptions,
): Promise<MemoryEstimate[]> {
  const types = Object.keys(weightBytes) as MatrixType[]
  return estimateEach(
    directory,
    types.map(type => ({ ...options, dtype: loadDtype(weightBytes, type) })),
  )
}

const EXAMPLES = `
Examples:
  $ moepp inspect npm:moepp-books-7m
  $ moepp inspect npm:moepp-books-7m --memory --context-length 8192
  $ moepp inspect npm:moepp-books-7m --json | jq .parameters.total
`

const KIND_NAME: Readonly<Record<ParameterKind, string>> = {
  embedding: 'embedding',
  ngrams: 'n-gram embedding',
  attention: 'attention',
  router: 'router',
  ffnExperts: 'FFN experts',
  constantExperts: 'constant experts',
  denseFfn: 'dense layers',
  norms: 'norms',
  head: 'head',
}

function describe(
  inspection: Inspection,
  withTensors: boolean,
  estimates: readonly MemoryEstimate[] | undefined,
): string {
  const { directory, format, files, tensors, otherTensors } = inspection
  const bytes = files.reduce((sum, file) => sum + file.bytes, 0)
  const dtypes = [...new Set(tensors.map(tensor => tensor.dtype))].join(', ')
  const stored = `${format === 'bin' ? 'torch .bin' : 'safetensors'} (${dtypes})`
  const parts = [
    `${directory}\n  ${stored}, ${files.length === 1 ? '1 file' : `${files.length} files`}, ${formatBytes(bytes)}`,
    `Configuration\n${configTable(inspection)}`,
    `Parameters\n${parameterTable(inspection)}`,
    `Active parameters per token, by its FFN experts per layer\n${activeTable(inspection)}`,
    `Memory\n${memoryTable(inspection)}`,
    ...(estimates ? [estimateTable(estimates)] : []),
  ]
  if (withTensors) {
    const rows = tensors.map(({ name, dtype, shape, file }) => [
      name,
      dtype,
      `[${shape.join(', ')}]`,
      file,
    ])
    parts.push(`Tensors\n${formatTable(rows, ['left', 'left', 'left', 'left'])}`)
  }
  if (otherTensors.length > 0) {
    const list = withTensors
      ? `\n${otherTensors.map(name => `  ${name}`).join('\n')}`
      : ` ${otherTensors.length}`
    parts.push(`Stored tensors that the model does not have:${list}`)
  }
  return parts.join('\n\n')
}

/** `20: 16 ffn of 4,096, 2 constant, 1 copy, 1 zero; a token picks 2`. */
function expertsOf({ config: c, routers }: Inspection): string {
  const [first] = routers
  if (!first) return 'none'
  const kinds = EXPERT_KINDS.flatMap(kind => {
    const count = expertCount(first.experts, kind)
    if (count === 0) return []
    return [
      kind === 'ffn' ? `${count} FFN of ${formatCount(c.intermediateSize)}` : `${count} ${kind}`,
    ]
  })
  const layers = routers.length < c.layers ? `; ${routers.length} of ${c.layers} layers` : ''
  return `${c.experts}: ${kinds.join(', ')}; a token picks ${c.topK}${layers}`
}

function configTable(inspection: Inspection): string {
  const { config: c, routerNotes, predictionLayers } = inspection
  const scaling = c.ropeScaling ? `, ${c.ropeScaling.type} scaling by ${c.ropeScaling.factor}` : ''
  const end = c.eosTokenIds.length > 0 ? c.eosTokenIds.join(', ') : 'none'
  const rows = [
    ['family', c.family],
    ['layers', String(c.layers)],
    ['hidden size', formatCount(c.hiddenSize)],
    ['attention', `${c.heads} heads of ${c.headDim}, ${c.kvHeads} key and value heads`],
    ['experts', expertsOf(inspection)],
    ['router', routerNotes.join(', ')],
    ...(predictionLayers > 0
      ? [['multi-token prediction', `${formatNumber(predictionLayers, 'layer')}, not loaded`]]
      : []),
    [
      'vocabulary',
      `${formatCount(c.vocabSize)}${c.tieWordEmbeddings ? ', head tied to the embedding' : ''}`,
    ],
    [
      'positions',
      `${formatCount(c.maxPositionEmbeddings)}, RoPE base ${formatCount(c.ropeTheta)}${scaling}`,
    ],
    ['RMSNorm epsilon', c.rmsNormEps.toExponential()],
    [
      'special tokens',
      `begin ${c.bosTokenId ?? 'none'}, end ${end}, pad ${c.padTokenId ?? 'none'}`,
    ],
  ]
  return formatTable(rows, ['left', 'left'])
}

function parameterTable({ parameters: { byKind, total } }: Inspection): string {
  const rows = PARAMETER_KINDS.filter(kind => byKind[kind] > 0).map(kind => [
    KIND_NAME[kind],
    formatCount(byKind[kind]),
    `${((100 * byKind[kind]) / total).toFixed(1)} %`,
  ])
  return formatTable([...rows, ['total', formatCount(total)]], ['left', 'right', 'right'])
}

function activeTable({ parameters: { activePerToken } }: Inspection): string {
  const { most, even, least } = activePerToken
  const rows = [
    [formatRatio(most.ffnExpertsPerToken), formatCount(most.parameters), 'most'],
    [
      formatRatio(even.ffnExpertsPerToken),
      formatCount(even.parameters),
      'if all experts were picked equally often',
    ],
    [formatRatio(least.ffnExpertsPerToken), formatCount(least.parameters), 'least'],
  ]
  return formatTable(rows, ['left', 'right', 'left'])
}

function memoryTable({ memory }: Inspection): string {
  const types = Object.keys(memory.weightBytes) as MatrixType[]
  const cacheRow = (name: string, device: 'cpu' | 'gpu') => [
    `KV cache per 1,024 tokens${name}`,
    ...types.map(type =>
      formatBytes(memory.kvCacheBytesPer1024Tokens[memory.kvCacheDtype[device][type]!]),
    ),
  ]
  const rows = [
    ['', ...types],
    ['weights', ...types.map(type => formatBytes(memory.weightBytes[type]!))],
    ...(memory.tableBytes > 0
      ? [['tables that stay in files', ...types.map(() => formatBytes(memory.tableBytes))]]
      : []),
    cacheRow(', on a CPU', 'cpu'),
    cacheRow(', on a GPU', 'gpu'),
  ]
  return formatTable(rows, ['left', ...types.map(() => 'right' as const)])
}

function estimateTable(estimates: readonly MemoryEstimate[]): string {
  const { contextLength, kvCacheTokens } = estimates[0]!
  const row = (name: string, cell: (e: MemoryEstimate) => string) => [name, ...estimates.map(cell)]
  const rows = [
    row('', e => e.dtype),
    row('device', e => e.device),
    row('weights', e => formatBytes(e.weightBytes)),
    row('KV cache', e => formatBytes(e.kvCacheBytes)),
    row('a step', e => formatBytes(e.stepBytes)),
    row('total', e => formatBytes(e.totalBytes)),
    row('of it mapped', e => formatBytes(e.mappedBytes)),
    ...(estimates.some(e => e.tableBytes > 0)
      ? [row('in files beside it', e => formatBytes(e.tableBytes))]
      : []),
    row('needed to load', e => formatBytes(e.requiredBytes)),
    row('available now', e => formatBytes(e.availableBytes)),
    row('fits', e => (e.fits ? 'yes' : 'no')),
  ]
  const title =
    `To load it, with texts of up to ${formatCount(contextLength)} tokens ` +
    `and a KV cache of ${formatCount(kvCacheTokens)}`
  return `${title}\n${formatTable(rows, ['left', ...estimates.map(() => 'right' as const)])}`
}
