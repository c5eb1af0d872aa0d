/** The parts of a server that its routes share. */
import type { Model } from '../generation/model.js'
import type { Admission } from './admission.js'
import type { Lifecycle } from './lifecycle.js'
import type { Metrics } from './metrics/metrics.js'
import type { Observer } from './observer.js'
import type { ResolvedServeOptions } from './options.js'

export interface ServerContext {
  readonly model: Model
  readonly options: ResolvedServeOptions
  readonly admission: Admission
  readonly lifecycle: Lifecycle
  readonly observer: Observer
  /** If the option is true. */
  readonly metrics: Metrics | undefined
  /** Unix time in seconds at which the server was made. */
  readonly created: number
}
