/** The captured scores of constant experts on the CUDA device. */
import './gpu.js'

await import('../reference/constant-scores.test.js')
