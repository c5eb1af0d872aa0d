/**
 * The package for CommonJS: the same module, which Node requires since 20.19. It exists for
 * TypeScript, which lets CommonJS sources import the types of an ES module with `module: nodenext`
 * alone.
 */
import type { routing as types } from './index.js' with { 'resolution-mode': 'import' }

type Module = typeof import('./index.js', { with: { 'resolution-mode': 'import' }})

module.exports = require('./index.js')

export type * from './index.js' with { 'resolution-mode': 'import' }
export declare const estimateMemory: Module['estimateMemory']
export declare const loadModel: Module['loadModel']
export declare const loadTokenizer: Module['loadTokenizer']
export declare const MoeppError: Module['MoeppError']
export declare const routing: Module['routing']
export type MoeppError = import('./index.js', { with: { 'resolution-mode': 'import' }}).MoeppError

/** Types of the namespace: a constant has none. */
export declare namespace routing {
  export type LayerBalance = types.LayerBalance
  export type Finding = types.Finding
  export type MeanInterval = types.MeanInterval
  export type LayerAgreement = types.LayerAgreement
  export type LayerStatistics = types.LayerStatistics
  export type Moments = types.Moments
  export type RouterScores = types.RouterScores
  export type RouterStatistics = types.RouterStatistics
}
