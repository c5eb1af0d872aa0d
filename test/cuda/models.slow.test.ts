/** The golden models on the CUDA device. */
import './gpu.js'

await import('../reference/models.test.js')
