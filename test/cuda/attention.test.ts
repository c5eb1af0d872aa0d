/** The golden attention cases on the CUDA device. */
import './gpu.js'

await import('../reference/attention.test.js')
