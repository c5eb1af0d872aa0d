/** The golden models with latent attention on the CUDA device. */
import './gpu.js'

await import('../reference/latent-models.test.js')
