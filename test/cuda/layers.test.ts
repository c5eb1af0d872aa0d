/** The golden layers on the CUDA device. */
import './gpu.js'

await import('../reference/layers.test.js')
