/**
 * Records a model as a plain list of ops over named buffers. Native checks and runs it; nothing is
 * computed here.
 */
import type { BufferSpec, Dimension, OpSpec, ProgramSpec, WeightSpec } from '../addon/binding.js'
import type { LookupSpec } from '../addon/lookup-spec.js'

/** A buffer of the program. Every one is written by one op, or is an input of the step. */
export interface Buffer {
  readonly kind: 'buffer'
  readonly name: string
  readonly dtype: 'f32' | 'i32'
  readonly shape: readonly Dimension[]
}

/** A constant of the program. */
export interface Weight {
  readonly kind: 'weight'
  readonly name: string
  readonly shape: readonly number[]
}

/** An output of an op: the buffer's last name, its shape, and its dtype (f32 unless given). */
export interface Output {
  readonly name: string
  readonly shape: readonly Dimension[]
  readonly dtype?: 'f32' | 'i32'
}

export class ProgramBuilder {
  readonly #buffers: BufferSpec[] = []
  readonly #inputs: string[] = []
  readonly #weights: WeightSpec[] = []
  readonly #ops: OpSpec[] = []
  readonly #lookups: LookupSpec[] = []

  /** An input of the step. */
  input(name: string, dtype: 'f32' | 'i32', shape: readonly Dimension[]): Buffer {
    this.#inputs.push(name)
    return this.#buffer(name, dtype, shape)
  }

  #buffer(name: string, dtype: 'f32' | 'i32', shape: readonly Dimension[]): Buffer {
    this.#buffers.push({ name, dtype, shape })
    return { kind: 'buffer', name, dtype, shape }
  }

  weight(spec: WeightSpec): Weight {
    this.#weights.push(spec)
    return { kind: 'weight', name: spec.name, shape: spec.shape }
  }

  /** The rows of a table in files [T, N * W], which each step reads before its ops. */
  lookedUp(label: string, { rows, table }: { rows: Buffer; table: WeightSpec }): Buffer {
    const [T, N] = rows.shape
    const out = this.#buffer(`${label}.out`, 'f32', [T!, Number(N) * table.shape[1]!])
    this.#lookups.push({ label, table, rows: rows.name, out: out.name })
    return out
  }

  /** Appends an op; its output buffers are named as `outputs` says and returned by field. */
  op<Field extends string>(
    op: string,
    label: string,
    inputs: Readonly<Record<string, Buffer | Weight | undefined>>,
    outputs: Readonly<Record<Field, Output>>,
    attributes: OpSpec['attributes'] = {},
  ): Record<Field, Buffer> {
    const tensors: Record<string, string> = {}
    for (const [field, tensor] of Object.entries(inputs)) if (tensor) tensors[field] = tensor.name
    const written = {} as Record<Field, Buffer>
    for (const field of Object.keys(outputs) as Field[]) {
      const { name, shape, dtype = 'f32' } = outputs[field]
      written[field] = this.#buffer(name, dtype, shape)
      tensors[field] = name
    }
    this.#ops.push({ op, label, tensors, attributes })
    return written
  }

  /** The program, whose runs return `outputs`. */
  finish(outputs: readonly Buffer[]): ProgramSpec {
    return {
      buffers: this.#buffers,
      weights: this.#weights,
      ops: this.#ops,
      lookups: this.#lookups,
      inputs: this.#inputs,
      outputs: outputs.map(buffer => buffer.name),
      compute: 'exact',
    }
  }
}
