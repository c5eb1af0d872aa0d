/**
 * The package for CommonJS: the same module, which Node requires since 20.19. It exists for
 * TypeScript, which lets CommonJS sources import the types of an ES module with `module: nodenext`
 * alone.
 */
type Module = typeof import('./index.js', { with: { 'resolution-mode': 'import' }})

module.exports = require('./index.js')

export type * from './index.js' with { 'resolution-mode': 'import' }
export declare const estimateMemory: Module['estimateMemory']
export declare const loadModel: Module['loadModel']
export declare const loadTokenizer: Module['loadTokenizer']
export declare const MoeppError: Module['MoeppError']
export type MoeppError = import('./index.js', { with: { 'resolution-mode': 'import' }}).MoeppError
