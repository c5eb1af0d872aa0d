/** The seconds of a model and of its vanilla twin, measured side by side. */
import {
  type Ceilings,
  ceilingsOf,
  type MeasureCeilings,
  meanCeilings,
  peakFor,
} from '../benchmark/ceilings.js'
import { Sequences } from '../benchmark/sequences.js'
import { MoeppError } from '../errors.js'
import { FAMILIES } from '../families/registry.js'
import { aborted } from '../generation/job.js'
import { loadParts } from '../load/load.js'
import { PAGE_SIZE } from '../model/runner.js'
import { type LoadOptions, resolveLoadOptions } from '../options/generate.js'
import { type ModelSpec, routersOf } from '../program/model-spec.js'
import { expertCount } from '../program/moe-ops.js'
import type { CostCeilings, MeasuredCost, Seconds } from './types.js'

export interface MeasureOptions {
  readonly source: string
  readonly load: LoadOptions
  /** The first tokens of each text, at least one; those that are too many are left out. */
  readonly texts: readonly Int32Array[]
  readonly signal?: AbortSignal
  /** Turns that are done, of all. */
  readonly onProgress?: (done: number, total: number) => void
}

/** Of a text: its prompt, and the tokens that are computed one by one behind it. */
const PREFILL_TOKENS = 512
const DECODE_TOKENS = 32
/** Each turn measures both models, in changing order. The median of the turns counts. */
const TURNS = 5
/** A slow model gets fewer turns than that, but two at least. */
const MOST_SECONDS = 60

type Loaded = Awaited<ReturnType<typeof loadParts>>

/**
 * The model where each pick is an FFN expert: zero-computation experts are masked in each router.
 * The order of the logits decides as before. They are not scaled, for that would need the masked
 * ones; only the experts' weights differ, which no time depends on.
 */
export function vanillaTwin(spec: ModelSpec): ModelSpec {
  const ops = spec.ops.map(op =>
    op.op === 'route_top_k'
      ? { ...op, attributes: { ...op.attributes, masked: 1, norm_std: 0 } }
      : op,
  )
  return { ...spec, ops }
}

/**
 * Loads the model and its twin beside each other, and measures them in turns on each text. Close
 * another copy of the model before, so that both fit. A model without zero-computation experts is
 * its own twin.
 *
 * @throws MoeppError as loadModel does, ERR_OUT_OF_MEMORY if both do not fit. ERR_UNSUPPORTED if a
 *   layer has fewer FFN experts than a token picks, or no layer has experts. ERR_ABORTED;
 *   RangeError for a text without tokens
 */
export async function measureCosts(options: MeasureOptions): Promise<MeasuredCost[]> {
  const { source, texts, signal } = options
  const empty = texts.findIndex(text => text.length === 0)
  if (empty !== -1) throw new RangeError(`texts[${empty}]: expected at least one token`)
  const tokens = PREFILL_TOKENS + DECODE_TOKENS
  const load = resolveLoadOptions({
    ...options.load,
    contextLength: tokens,
    kvCacheTokens: Math.ceil(tokens / PAGE_SIZE) * PAGE_SIZE,
    ...(signal && { signal }),
  })
  const model = await loadParts(source, load)
  try {
    checkTwin(source, model.spec)
    const isOwnTwin = routersOf(model.spec).every(
      ({ experts }) => expertCount(experts) === expertCount(experts, 'ffn'),
    )
    if (isOwnTwin) return await measureEach(options, model)
    const twin = await loadParts(source, load, FAMILIES, vanillaTwin)
    try {
      return await measureEach(options, model, twin)
    } finally {
      await twin.runner.close()
    }
  } catch (error) {
    throw signal?.aborted ? aborted(signal) : error
  } finally {
    await model.runner.close()
  }
}

function checkTwin(source: string, spec: ModelSpec): void {
  const routers = routersOf(spec)
  if (routers.length === 0)
    throw new MoeppError('ERR_UNSUPPORTED', `${source}: no layer has experts`)
  for (const { layer, topK, experts } of routers) {
    const ffn = expertCount(experts, 'ffn')
    if (ffn >= topK) continue
    throw new MoeppError(
      'ERR_UNSUPPORTED',
      `${source}: layer ${layer} has ${ffn} FFN experts, expected at least ${topK}, as a token ` +
        'picks: there is no vanilla twin to measure',
    )
  }
}

async function measureEach(
  { texts, signal, onProgress }: MeasureOptions,
  model: Loaded,
  twin?: Loaded,
): Promise<MeasuredCost[]> {
  const { device, matrixType, activationDtype } = model.runner.info()
  const products = activationDtype === 'bfloat16' ? 'rounded' : matrixType
  const ceilings = ceilingsOf(device)
  const measured: MeasuredCost[] = []
  for (const [i, text] of texts.entries()) {
    const onTurn = (turn: number) => onProgress?.(i * TURNS + turn, texts.length * TURNS)
    measured.push(
      await measureText(text, twin ? [model, twin] : [model], {
        ceilings,
        products,
        signal,
        onTurn,
      }),
    )
  }
  return measured
}

interface Turns {
  readonly ceilings: MeasureCeilings
  /** A key of ceilings.ts' instructions. */
  readonly products: string
  readonly signal: AbortSignal | undefined
  readonly onTurn: (done: number) => void
}

/** The first turn warms up, and is not counted. */
async function measureText(
  text: Int32Array,
  models: readonly Loaded[],
  { ceilings, products, signal, onTurn }: Turns,
): Promise<MeasuredCost> {
  const timers = models.map(({ runner }) => new TextTimer(runner, text))
  const times = timers.map((): Seconds[] => [])
  for (const timer of timers) await timer.seconds(signal)
  const before = await ceilings()
  const started = performance.now()
  for (let turn = 0; turn < TURNS; turn++) {
    const order = turn % 2 === 0 ? [...timers.keys()] : [...timers.keys()].reverse()
    for (const i of order) times[i]!.push(await timers[i]!.seconds(signal))
    const isLate = performance.now() - started > MOST_SECONDS * 1000
    onTurn(isLate && turn > 0 ? TURNS : turn + 1)
    if (isLate && turn > 0) break
  }
  const after = await ceilings()
  const [model, twin = model] = times.map(medians)
  return {
    model: model!,
    twin: twin!,
    ceilings: before && after && ceilingsFor(products, [before, after]),
  }
}

function medians(turns: readonly Seconds[]): Seconds {
  return {
    prefill: median(turns.map(({ prefill }) => prefill)),
    decode: median(turns.map(({ decode }) => decode)),
  }
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length / 2
  return (sorted[Math.ceil(middle) - 1]! + sorted[Math.floor(middle)]!) / 2
}

function ceilingsFor(products: string, measured: readonly Ceilings[]): CostCeilings | null {
  const mean = meanCeilings(measured)
  return (
    mean && {
      bytesPerSecond: mean.readBandwidth,
      operationsPerSecond: peakFor(products, mean.peaks).rate,
    }
  )
}

/** Times one model on the first tokens of a text. A short text begins again where it ends. */
class TextTimer {
  readonly #sequences: Sequences

  constructor(runner: Loaded['runner'], text: Int32Array) {
    const tokenOf = (_: number, position: number) => text[position % text.length]!
    this.#sequences = new Sequences(runner, [PREFILL_TOKENS + DECODE_TOKENS], tokenOf)
  }

  /** Per token. */
  async seconds(signal: AbortSignal | undefined): Promise<Seconds> {
    const start = performance.now()
    await this.#sequences.prefill(1, PREFILL_TOKENS, signal)
    const middle = performance.now()
    await this.#sequences.decode(1, PREFILL_TOKENS, DECODE_TOKENS, signal)
    const end = performance.now()
    return {
      prefill: (middle - start) / 1000 / PREFILL_TOKENS,
      decode: (end - middle) / 1000 / DECODE_TOKENS,
    }
  }
}
