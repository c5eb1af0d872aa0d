/**
 * moepp/server: OpenAI's HTTP interface for a model.
 *
 * @module
 */
/// <reference lib="esnext.disposable" preserve="true" />

export type { LogLevel, ServeOptions } from './options.js'
export { type ListenOptions, type Server, serve } from './server.js'
