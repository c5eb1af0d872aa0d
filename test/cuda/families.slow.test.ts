/** The golden models of the other families on the CUDA device. */
import './gpu.js'

await import('../reference/families.slow.test.js')
