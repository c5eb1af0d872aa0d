/** moepp/server for CommonJS: see ../index.cts. */
type Module = typeof import('./index.js', { with: { 'resolution-mode': 'import' }})

module.exports = require('./index.js')

export type * from './index.js' with { 'resolution-mode': 'import' }
export declare const serve: Module['serve']
