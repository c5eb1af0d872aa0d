// One MoE layer of a synthetic checkpoint as a program of its own: router, routing, FFN experts,
// combination. The RMSNorm that follows in the model is in it, because it is part of the last op.
import { loadBinding } from '../dist/addon/binding.js'
import { moe, routeTokens } from '../dist/model/moe.js'
import { ModelWeights } from '../dist/model/weights.js'
import { ProgramBuilder } from '../dist/program/builder.js'
import { Checkpoint } from './safetensors.mjs'
import { widen } from './synthetic-random.mjs'

export class MoeLayer {
  /** `matrix` as MATRIX_DTYPES of lib/load/load.ts has it. */
  static async load(config, tensors, { matrix, threads }) {
    const p = new ProgramBuilder()
    const w = new ModelWeights(p, tensors, matrix)
    const shape = ['T', config.hiddenSize]
    const x = p.input('x', 'f32', shape)
    const { logits, route } = routeTokens(p, w, config, 0, { x, previousLogits: undefined })
    const residual = p.input('residual', 'f32', shape)
    const nextNorm = w.small('model.norm.weight', [config.hiddenSize])
    const names = { sum: 'y', out: 'normalised' }
    const { sum } = moe(p, w, config, 0, { residual, x, route, nextNorm }, names)
    const { Device, fastestIsa } = loadBinding()
    const device = new Device('cpu', {
      threads,
      isa: fastestIsa(matrix === 'exact' ? 'bf16' : matrix),
    })
    const program = await device.compile(p.finish([sum, logits]))
    return new MoeLayer(device, program, config)
  }

  constructor(device, program, config) {
    Object.assign(this, { device, program, config })
  }

  #options(x) {
    const sizes = { T: x.length / this.config.hiddenSize, R: 0, B: 1, M: 0 }
    return { sizes, inputs: { x, residual: new Float32Array(x.length) } }
  }

  /** The layer's output for the hidden states x [T, H], without what it is added to. */
  async run(x) {
    return (await this.program.run(this.#options(x))).y
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
