// Full-size checkpoints with random weights, so that speed is measured at real size without a
// download. The same arguments give the same bytes everywhere.
//
//   node bench/synthetic.mjs [7b | 2b | 1b | 0.6b] [--vanilla] [--tau=0.75] [--layers=24]
//                            [--folder=.cache/synthetic]
//
// prints the directory.
//
// --vanilla writes the twin: the same FFN experts, top-2 over them alone, neither gating residual
// nor logits norm. A MoE++ checkpoint has four zero-computation experts, so the twin has them, too.
// Their logits are so low that no token ever chooses one.
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { check, count, fraction, oneOf, present, readArguments, text } from './arguments.mjs'
import {
  fromBf16,
  normalBlock,
  normalFrom,
  randomFrom,
  scaledBlock,
  toBf16,
} from './synthetic-random.mjs'
import { ANCHOR, meanLogits, routerRows } from './synthetic-routing.mjs'
import { config, ffnShare, SHAPES, tensors, ZERO_COMPUTATION_EXPERTS } from './synthetic-shapes.mjs'

const CACHE = fileURLToPath(new URL('../.cache/synthetic/', import.meta.url))
/** Counts up when the same arguments give other bytes. */
const FORMAT = 3

/** Standard deviation of the weights. */
export const STD = 2 ** -6
/**
 * The embedding is large and what a layer adds is small, so that a token's own embedding decides
 * its routing in every layer.
 */
const EMBEDDING = 64
const ADDED = 1 / 8

/** A checkpoint's make-up, as options of a command line. */
export const SYNTHETIC = {
  shape: oneOf(Object.keys(SHAPES)),
  layers: count,
  tau: fraction,
  vanilla: present,
  folder: text,
}

/** Makes the checkpoint unless it is there, and returns its directory. */
export function synthetic(
  name = '7b',
  { layers, tau = 0.75, vanilla = false, seed = 1, folder = CACHE } = {},
) {
  const shape = { ...SHAPES[check('shape', name, SYNTHETIC.shape)] }
  if (layers !== undefined) shape.layers = check('layers', layers, count)
  check('tau', tau, fraction)
  check('seed', seed, count)
  const kind = vanilla ? 'vanilla' : `tau${tau}`
  const directory = join(folder, `${name}-${kind}-${shape.layers}-layers-seed${seed}-f${FORMAT}`)
  if (existsSync(directory)) return directory
  const partial = `${directory}.partial`
  rmSync(partial, { recursive: true, force: true })
  mkdirSync(partial, { recursive: true })
  writeTensors(
    join(partial, 'model.safetensors'),
    shape,
    vanilla ? 1 : ffnShare(shape, tau),
    vanilla,
    seed,
  )
  writeFileSync(join(partial, 'config.json'), JSON.stringify(config(shape, vanilla), null, 2))
  renameSync(partial, directory)
  return directory
}

function writeTensors(path, shape, share, vanilla, seed) {
  const header = {}
  let end = 0
  for (const [tensor, sizes] of tensors(shape)) {
    const bytes = 2 * sizes.reduce((a, b) => a * b, 1)
    header[tensor] = { dtype: 'BF16', shape: sizes, data_offsets: [end, end + bytes] }
    end += bytes
  }
  const text = Buffer.from(JSON.stringify(header))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(text.length))
  const file = openSync(path, 'w')
  try {
    writeSync(file, length)
    writeSync(file, text)
    const content = new Content(shape, share, vanilla, seed)
    for (const [tensor, { shape: sizes, data_offsets: offsets }] of Object.entries(header)) {
      content.write(file, tensor, sizes, offsets[0] / 2)
    }
  } finally {
    closeSync(file)
  }
}

/** The tensors' contents, one after the other in the order of the forward pass. */
class Content {
  constructor(shape, share, vanilla, seed) {
    Object.assign(this, { shape, share, vanilla, seed })
    this.block = normalBlock(seed, STD)
    this.large = scaledBlock(this.block, EMBEDDING)
    this.small = scaledBlock(this.block, ADDED)
    this.layer = 0
  }

  /** `from` is the tensor's first element in the file. */
  write(file, name, sizes, from) {
    const columns = sizes.at(-1)
    const count = sizes.reduce((a, b) => a * b, 1)
    if (name.includes('norm.weight'))
      return writeValues(file, new Uint16Array(count).fill(toBf16(1)))
    if (name.endsWith('embed_tokens.weight')) return this.#writeEmbedding(file, sizes, from)
    if (name.endsWith('gate.wg.weight')) return this.#writeRouter(file)
    if (name.endsWith('gate_map.weight')) return writeValues(file, this.gateMap)
    if (name.endsWith('.constant')) {
      return this.#writeCut(file, this.small, from, count, 1)
    }
    if (name.endsWith('o_proj.weight') || name.endsWith('down_proj.weight')) {
      return this.#writeCut(file, this.small, from, count, columns)
    }
    return this.#writeCut(file, this.block, from, count, 0)
  }

  /** The first `zeros` values are 0: what would write to the anchor. */
  #writeCut(file, block, from, count, zeros) {
    if (zeros > 0) writeValues(file, new Uint16Array(zeros))
    for (let done = zeros; done < count; ) {
      const at = (from + done) % block.length
      const part = block.subarray(at, Math.min(at + count - done, block.length))
      writeValues(file, part)
      done += part.length
    }
  }

  #writeEmbedding(file, [rows, columns], from) {
    const anchor = toBf16(ANCHOR * STD * EMBEDDING)
    for (let row = 0; row < rows; ) {
      const some = Math.min(1024, rows - row)
      const values = new Uint16Array(some * columns)
      for (let i = 0; i < values.length; i++) {
        values[i] =
          i % columns === 0 ? anchor : this.large[(from + row * columns + i) % this.large.length]
      }
      writeValues(file, values)
      row += some
    }
  }

  /** The router, and the residual map that goes with it, which is the next tensor. */
  #writeRouter(file) {
    const { hidden, ffnExperts: N } = this.shape
    const E = N + ZERO_COMPUTATION_EXPERTS
    const seed = this.seed * 1000 + this.layer
    const normal = normalFrom(randomFrom(seed + 500_000))
    this.gateMap = Uint16Array.from({ length: E * E }, () =>
      this.vanilla ? 0 : toBf16(STD * normal()),
    )
    const { rows, means } = routerRows({
      hidden,
      means: meanLogits({ ffnExperts: N, experts: E, share: this.share, seed: seed + 700_000 }),
      previousMeans: this.means,
      gateMap: Float32Array.from(this.gateMap, fromBf16),
      std: STD,
      seed: seed + 900_000,
    })
    this.means = means
    this.layer++
    writeValues(file, Uint16Array.from(rows, toBf16))
  }
}

/** All of it: a write may take only a part. */
function writeValues(file, values) {
  const bytes = Buffer.from(values.buffer, values.byteOffset, values.byteLength)
  for (let done = 0; done < bytes.length; ) done += writeSync(file, bytes, done)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { shape, ...options } = readArguments(process.argv.slice(2), SYNTHETIC, 'shape')
  console.log(synthetic(shape, options))
}
