// How many threads a bench uses unless it is told: as many as a model would, which a control group
// may bound.
import { loadBinding } from '../dist/binding.js'

export function availableThreads() {
  const device = new (loadBinding().Device)('cpu')
  const { threads } = device.info()
  device.close()
  return threads
}
