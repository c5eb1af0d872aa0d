/** `moepp serve`: OpenAI's HTTP interface for a model. */
import { basename, resolve } from 'node:path'
import { Command, Option } from 'commander'
import { integer } from '../base/option-checks.js'
import type { LoadOptions } from '../options/generate.js'
import { resolveServeOptions, type ServeOptions } from '../server/options.js'
import { type CreateCommand, runWork, type Work } from './command.js'
import { checkUsage } from './errors.js'
import { inGroup } from './follower.js'
import { ModelSource } from './generate-model.js'
import { addGroupOptions, addLoadOptions, collect, number, pick } from './generate-options.js'
import { addModelOption, requireModel } from './model-option.js'
import { addHubOptions } from './source.js'
import type { Terminal } from './terminal.js'

const EXAMPLE = 'moepp serve --model ./my-model'

/** The packages that a server needs, as package.json's peerDependencies name them. */
const PEERS = 'fastify@5 @fastify/cors@11 prom-client@15'

interface ServeFlags extends LoadOptions, Omit<ServeOptions, 'apiKeys' | 'corsOrigins'> {
  readonly model?: string
  readonly port: number
  readonly host: string
  readonly apiKey?: readonly string[]
  readonly corsOrigin?: readonly string[]
}

/** Those whose flags have the same names. */
const NAMES = [
  'modelName',
  'maxRunning',
  'maxQueued',
  'maxQueuedTokens',
  'deadlineMs',
  'drainMs',
  'maxBodyBytes',
  'maxUnreadBytes',
  'metrics',
  'page',
  'logLevel',
  'logBodies',
] as const

export const serveCommand: CreateCommand = (terminal, setExitCode) => {
  const command = new Command('serve')
    .description("Serves a model by OpenAI's HTTP interface, with a page to try it.")
    .addHelpText('after', EXPLANATION)
    .action((flags: ServeFlags) =>
      runWork(
        terminal,
        setExitCode,
        inGroup(flags, work => runServer(requireModel(flags, EXAMPLE), flags, terminal, work)),
      ),
    )
  addModelOption(command)
  for (const option of serveOptions()) command.addOption(option.helpGroup('Server options:'))
  return addHubOptions(addGroupOptions(addLoadOptions(command)))
}

const EXPLANATION = `
It needs packages that moepp alone does not: npm install ${PEERS}
TLS is the job of a proxy before it. SIGTERM and Ctrl-C let running requests end; a second Ctrl-C
ends them. docs/serving.md has the interface, limits, metrics and deployment.

Examples:
  $ moepp serve --model hf:Chat-UniVi/MoE-Plus-Plus-7B
  $ curl localhost:8080/v1/completions -H 'content-type: application/json' \\
      -d '{"model": "MoE-Plus-Plus-7B", "prompt": "The old man", "max_tokens": 32}'
`

function serveOptions(): Option[] {
  return [
    number('--port <n>', 'port; 0 is any that is free').default(8080),
    new Option('--host <name>', 'interface; 0.0.0.0 for all').default('127.0.0.1'),
    new Option('--api-key <key>', 'requests must bear it; may be repeated')
      .argParser(collect)
      .env('MOEPP_API_KEY'),
    new Option(
      '--cors-origin <origin>',
      'pages from there may read answers; may be repeated',
    ).argParser(collect),
    new Option('--model-name <name>', 'name in requests (default: the last part of the model)'),
    number('--max-running <n>', 'texts computed at a time (default: 64)'),
    number('--max-queued <n>', 'texts that wait; more are refused with 429 (default: 256)'),
    number('--max-queued-tokens <n>', 'tokens of texts that wait (default: 4000000)'),
    number('--deadline-ms <ms>', 'time of a request, in the queue too (default: 600000)'),
    number('--drain-ms <ms>', 'time of running requests after SIGTERM (default: 30000)'),
    number('--max-body-bytes <n>', "bytes of a request's body (default: 8388608)"),
    number('--max-unread-bytes <n>', 'bytes that wait for a slow reader (default: 1048576)'),
    new Option('--no-metrics', 'serve no /metrics'),
    new Option('--no-page', 'serve no page at /'),
    new Option('--log-level <level>', 'lines of JSON on standard output')
      .choices(['silent', 'fatal', 'error', 'warn', 'info', 'debug', 'trace'])
      .default('info'),
    new Option('--log-bodies', 'log headers and bodies of requests, too'),
  ]
}

async function runServer(
  name: string,
  flags: ServeFlags,
  terminal: Terminal,
  { progress, interrupt }: Work,
): Promise<void> {
  const { serve, importPeers } = await importServer()
  const { apiKey: apiKeys, corsOrigin: corsOrigins } = flags
  const options: ServeOptions = {
    modelName: nameOf(name),
    ...pick(flags, NAMES),
    ...pick({ apiKeys, corsOrigins }, ['apiKeys', 'corsOrigins']),
  }
  const resolved = checkUsage(() => inFlags(() => resolveServeOptions(options)))
  checkUsage(() => integer(0, 65535)(flags.port, 'port'))
  // A load takes long: what is missing is told before.
  await importPeers(resolved)
  const source = new ModelSource(name, flags, progress, interrupt.signal)
  source.checkEarly({})
  await source.open()
  await using model = await source.load()
  await using server = await serve(model, options)
  const address = await server.listen(flags)
  terminal.note(`${options.modelName} on ${model.device.name}: ${address}`)
  // A group that has failed does not come back.
  await Promise.race([interrupt.received, ...(model.parallel ? [model.parallel.ended] : [])])
  terminal.note('closing: no new requests; Ctrl-C again ends the running ones')
  await server.close()
  interrupt.forgive()
}

/** Runs a check whose errors speak of `apiKeys[1]`, which is the second `--api-key`. */
function inFlags<T>(check: () => T): T {
  try {
    return check()
  } catch (error) {
    if (error instanceof Error) error.message = error.message.replace(/^(\w+)s\[\d+\](?=:)/, '$1')
    throw error
  }
}

/** The last part of a path, a package's name or a hub id. */
function nameOf(source: string): string {
  return basename(resolve(source.replace(/^[a-z]+:/, ''))) || 'moepp'
}

/** Only here is the server imported: its packages may be missing. */
async function importServer() {
  try {
    const { importPeers } = await import('../server/peers.js')
    return { ...(await import('../server/index.js')), importPeers }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_MODULE_NOT_FOUND') throw error
    throw new Error(`moepp serve needs further packages: npm install ${PEERS}`, { cause: error })
  }
}
