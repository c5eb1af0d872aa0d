/** What routing costs: operations and bytes of a token, for a model and for its vanilla twin. */
import type { LoadOptions } from '../options/generate.js'
import type { ModelSpec } from '../program/model-spec.js'
import type { Cost, LayerStatistics, MeasuredCost } from './types.js'

export interface CostOptions {
  readonly spec: ModelSpec
  readonly layers: readonly LayerStatistics[]
  /** A prefill is one of a window; a decode step has half a window in its cache. */
  readonly windowTokens: number
  readonly cacheDtype: 'f32' | 'bf16'
}

/** By counting: without ceilings and seconds. */
export declare function costOf(options: CostOptions): Cost

export interface MeasureOptions {
  readonly source: string
  readonly load: LoadOptions
  /** The first tokens of each text; those that are too many are left out. */
  readonly texts: readonly Int32Array[]
  readonly signal?: AbortSignal
  /** Measurements that are done, of all. */
  readonly onProgress?: (done: number, total: number) => void
}

/**
 * Loads the model and its twin beside each other, and measures them in turns on each text. Close
 * another copy of the model before, so that both fit.
 *
 * @throws MoeppError as loadModel does: ERR_OUT_OF_MEMORY if both do not fit; ERR_UNSUPPORTED if
 *   the model has fewer FFN experts than a token picks
 */
export declare function measureCosts(options: MeasureOptions): Promise<MeasuredCost[]>

/** The cost with ceilings and seconds. */
export declare function withMeasured(cost: Cost, measured: MeasuredCost): Cost
