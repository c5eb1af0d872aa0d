/** The metrics of a server, for Prometheus. Only this folder needs prom-client. */
import { Counter, collectDefaultMetrics, Registry } from 'prom-client'
import type { Model } from '../../generation/model.js'
import type { Admission } from '../admission.js'
import type { Observer, TextObserver } from '../observer.js'
import { addEngineMetrics } from './engine-metrics.js'
import { addExpertMetrics } from './expert-metrics.js'
import { addTextMetrics } from './text-metrics.js'

/** Of a server. Its values of labels are few: routes, methods, statuses and reasons. */
export class Metrics implements Observer {
  readonly wantsRouting = true
  readonly contentType = Registry.PROMETHEUS_CONTENT_TYPE
  readonly text: (route: string) => TextObserver
  readonly #registry = new Registry()
  readonly #requests: Counter<'method' | 'route' | 'status'>

  constructor(model: Model, admission: Admission, modelName: string) {
    const registry = this.#registry
    registry.setDefaultLabels({ model_name: modelName })
    this.#requests = new Counter({
      name: 'moepp_http_requests_total',
      help: 'Requests that have been answered.',
      labelNames: ['method', 'route', 'status'],
      registers: [registry],
    })
    addEngineMetrics(registry, () => model.stats(), admission)
    this.text = addTextMetrics(registry, addExpertMetrics(registry, model.config))
  }

  /** A request has been answered; `route` is a pattern, never a path. */
  countRequest(method: string, route: string, status: number): void {
    this.#requests.inc({ method, route, status })
  }

  /** All of them and the process's, in Prometheus' text format. */
  async scrape(): Promise<string> {
    const parts = await Promise.all([this.#registry.metrics(), ofProcess().metrics()])
    return parts.join('\n')
  }
}

let processRegistry: Registry | undefined

/** Memory, CPU time and event-loop delay are the process's, however many servers it has. */
function ofProcess(): Registry {
  if (processRegistry === undefined) {
    processRegistry = new Registry()
    collectDefaultMetrics({ register: processRegistry })
  }
  return processRegistry
}
