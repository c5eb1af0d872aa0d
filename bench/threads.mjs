// The number of threads of a bench unless it is told: that of a model, which a control group may
// bound.
import { loadBinding } from '../dist/addon/binding.js'

export function availableThreads() {
  const device = new (loadBinding().Device)('cpu')
  const { threads } = device.info()
  device.close()
  return threads
}
