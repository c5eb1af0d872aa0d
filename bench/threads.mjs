// How many threads a bench uses: --threads, else as many as a model would, which a control group may bound.
import { loadBinding } from '../dist/binding.js'
import { flag } from './synthetic.mjs'

export function threadsOf(args) {
  const given = flag(args, 'threads')
  if (given !== undefined) return Number(given)
  const device = new (loadBinding().Device)('cpu')
  const { threads } = device.info()
  device.close()
  return threads
}
