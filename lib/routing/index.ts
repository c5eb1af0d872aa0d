/**
 * Numbers about the routing of a mixture of experts, from the rows of the option `routing`. All are
 * plain functions of their arguments: they need no model.
 *
 * @module
 */
export { agreement } from './agreement.js'
export { balance, entropy, loads, shares } from './balance.js'
export { findings } from './findings.js'
export { interval } from './intervals.js'
export { merge, statistics } from './statistics.js'
export type {
  Finding,
  LayerAgreement,
  LayerBalance,
  LayerStatistics,
  MeanInterval,
  Moments,
  RouterScores,
  RouterStatistics,
} from './types.js'
