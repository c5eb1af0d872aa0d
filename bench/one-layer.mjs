// One MoE layer of a synthetic checkpoint as a program of its own: router, routing, FFN experts,
// combination. The RMSNorms before and after it in the model are in it, because they are recorded
// with it.
import { loadBinding } from '../dist/addon/binding.js'
import { recordMoe } from '../dist/families/moepp.js'
import { CheckpointTensors, ModelBuilder } from '../dist/program/model-builder.js'
import { Checkpoint } from './safetensors.mjs'
import { widen } from './synthetic-random.mjs'

const OUTPUT = 'layers.0.moe_output'

export class MoeLayer {
  /** `matrix` as MATRIX_DTYPES of lib/load/plan.ts has it. */
  static async load(config, checkpoint, { matrix, threads }) {
    const m = new ModelBuilder(new CheckpointTensors(checkpoint), matrix)
    const { hiddenSize, rmsNormEps: eps } = config
    const input = name => m.input(name, 'f32', ['T', hiddenSize])
    const weight = m.small('norms', 'model.norm.weight', [hiddenSize])
    const next = { weight, eps, sum: 'y', out: 'normalised' }
    recordMoe(m, config, 0, { x: input('x'), delta: input('delta') }, next)
    const { Device, fastestIsa } = loadBinding()
    const device = new Device('cpu', {
      threads,
      isa: fastestIsa(matrix === 'exact' ? 'bf16' : matrix),
    })
    const program = await device.compile(m.finish([{ name: OUTPUT }]))
    return new MoeLayer(device, program, config)
  }

  constructor(device, program, config) {
    Object.assign(this, { device, program, config })
  }

  #options(x) {
    const sizes = { T: x.length / this.config.hiddenSize, R: 0, B: 1, M: 0 }
    return { sizes, inputs: { x, delta: new Float32Array(x.length) } }
  }

  /** The layer's output for the hidden states x [T, H], without what it is added to. */
  async run(x) {
    return (await this.program.run(this.#options(x)))[OUTPUT]
  }

  /** Mean of the FFN experts that a token chose. */
  async ffnExperts(x) {
    const name = 'layers.0.expert_indices'
    const { [name]: indices } = await this.program.run({ ...this.#options(x), capture: [name] })
    return (2 * indices.filter(expert => expert < this.config.ffnExperts).length) / indices.length
  }

  async close() {
    await this.program.close()
    this.device.close()
  }
}

/**
 * The hidden states of `tokens` tokens before the first MoE layer, without its attention:
 * normalised embeddings.
 */
export function hiddenStates(directory, tokens, H) {
  const checkpoint = new Checkpoint(directory)
  const x = new Float32Array(tokens * H)
  let at = 0
  for (const piece of checkpoint.rows('model.embed_tokens.weight', 100, 100 + tokens)) {
    const values = widen(piece)
    for (let row = 0; row < values.length; row += H) {
      const part = values.subarray(row, row + H)
      const rms = Math.sqrt(part.reduce((sum, value) => sum + value * value, 0) / H)
      for (const value of part) x[at++] = value / rms
    }
  }
  checkpoint.close()
  return x
}

export const median = values => values.toSorted((a, b) => a - b)[values.length >> 1]
