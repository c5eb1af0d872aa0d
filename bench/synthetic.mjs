// Full-size checkpoints with random weights, so that speed is measured at real size without a
// download. The same arguments give the same bytes everywhere.
//
//   node bench/synthetic.mjs [7b | 2b | 1b | 0.6b | qwen3-30b-a3b | mixtral-8x7b | glm-4.7-flash |
//                             glm-4.7-flash-full-heads | longcat-flash-lite] [--vanilla]
//                            [--tau=0.75] [--zero=64] [--layers=24] [--folder=.cache/synthetic]
//
// prints the directory. It needs `npm run build`: a family's tensors are those of its description.
//
// --vanilla writes the twin: the same FFN experts, top-2 over them alone, neither gating residual
// nor logits norm. A MoE++ checkpoint has four zero-computation experts, so the twin has them, too.
// Their logits are so low that no token ever chooses one. A shape of Qwen3 or GLM has no
// zero-computation experts unless --zero adds some.
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
import { storedTensors } from '../dist/families/record.js'
import { describeModel } from '../dist/families/registry.js'
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
import { config, makeup, SHAPES, TAKES_ZERO_EXPERTS } from './synthetic-shapes.mjs'

const CACHE = fileURLToPath(new URL('../.cache/synthetic/', import.meta.url))
/** Counts up when the same arguments give other bytes. */
const FORMAT = 4

/** Standard deviation of the weights. */
export const STD = 2 ** -6
/**
 * The embedding is large and what a layer adds is small, so that a token's own embedding decides
 * its routing in every layer.
 */
const EMBEDDING = 64
const ADDED = 1 / 8
/** Of a strong shape instead: a layer's sums weigh as the embedding, and attention is sharp. */
const STRONG = { added: 8, queries: 64 }

/** A checkpoint's make-up, as options of a command line. */
export const SYNTHETIC = {
  shape: oneOf(Object.keys(SHAPES)),
  layers: count,
  tau: fraction,
  vanilla: present,
  zero: count,
  folder: text,
}

/** Zero experts can be added to some shapes alone. */
export function checkZero({ shape = '7b', zero = 0 }) {
  if (zero === 0) return
  check('zero', zero, count)
  const { family } = SHAPES[shape]
  if (!TAKES_ZERO_EXPERTS.has(family))
    throw new RangeError(`--zero: expected none with the shape ${shape}, got ${zero}`)
}

/** Makes the checkpoint unless it is there, and returns its directory. */
export function synthetic(
  name = '7b',
  { layers, tau, vanilla = false, zero = 0, seed = 1, folder = CACHE } = {},
) {
  const known = { ...SHAPES[check('shape', name, SYNTHETIC.shape)] }
  if (layers !== undefined) known.layers = check('layers', layers, count)
  if (tau !== undefined) check('tau', tau, fraction)
  checkZero({ shape: name, zero })
  check('seed', seed, count)
  const shape = makeup(known, { tau, vanilla, zero })
  const { share, experts, ffnExperts } = shape
  const kind = share === 1 ? 'vanilla' : `${experts - ffnExperts}-others-${share.toPrecision(3)}`
  const directory = join(folder, `${name}-${kind}-${shape.layers}-layers-seed${seed}-f${FORMAT}`)
  if (existsSync(directory)) return directory
  const partial = `${directory}.partial`
  rmSync(partial, { recursive: true, force: true })
  mkdirSync(partial, { recursive: true })
  writeTensors(join(partial, 'model.safetensors'), shape, seed)
  writeFileSync(join(partial, 'config.json'), JSON.stringify(config(shape), null, 2))
  renameSync(partial, directory)
  return directory
}

function writeTensors(path, shape, seed) {
  const tensors = storedTensors(describeModel(config(shape), path))
  const header = {}
  let end = 0
  for (const { name, shape: sizes } of tensors) {
    const bytes = 2 * sizes.reduce((a, b) => a * b, 1)
    header[name] = { dtype: 'BF16', shape: sizes, data_offsets: [end, end + bytes] }
    end += bytes
  }
  const text = Buffer.from(JSON.stringify(header))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(text.length))
  const file = openSync(path, 'w')
  try {
    writeSync(file, length)
    writeSync(file, text)
    const content = new Content(shape, seed)
    for (const tensor of tensors)
      content.write(file, tensor, header[tensor.name].data_offsets[0] / 2)
  } finally {
    closeSync(file)
  }
}

const QUERIES = /\.q(_b)?_proj\.weight$/
/** Matrices whose results are added to the hidden state. */
const ADDS = /\.(o_proj|down_proj|w2)\.weight$/

/** The tensors' contents, one after the other in the order of the forward pass. */
class Content {
  constructor(shape, seed) {
    Object.assign(this, { shape, seed })
    this.block = normalBlock(seed, STD)
    this.large = scaledBlock(this.block, EMBEDDING)
    this.small = scaledBlock(this.block, shape.strong ? STRONG.added : ADDED)
    this.queries = shape.strong ? scaledBlock(this.block, STRONG.queries) : this.block
    this.layer = 0
  }

  /** `from` is the tensor's first element in the file. */
  write(file, { name, kind, shape: sizes }, from) {
    const count = sizes.reduce((a, b) => a * b, 1)
    if (kind === 'norms') return writeValues(file, new Uint16Array(count).fill(toBf16(1)))
    if (kind === 'embedding') return this.#writeEmbedding(file, sizes, from)
    if (name.endsWith('gate_map.weight')) return writeValues(file, this.#gateMap(this.layer - 1))
    if (name.endsWith('e_score_correction_bias')) return writeValues(file, new Uint16Array(count))
    if (kind === 'router') return this.#writeRouter(file)
    if (name.endsWith('.constant')) return this.#writeCut(file, this.small, from, count, 1)
    if (QUERIES.test(name)) return this.#writeCut(file, this.queries, from, count, 0)
    if (ADDS.test(name)) return this.#writeCut(file, this.small, from, count, sizes.at(-1))
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

  #writeRouter(file) {
    const { family, hidden } = this.shape
    const seed = this.#layerSeed(this.layer)
    const { rows, means } = routerRows({
      hidden,
      means: meanLogits({ ...this.shape, seed: seed + 700_000 }),
      ...(family === 'moepp' && {
        previousMeans: this.means,
        gateMap: Float32Array.from(this.#gateMap(this.layer), fromBf16),
      }),
      std: STD,
      seed: seed + 900_000,
    })
    this.means = means
    this.layer++
    writeValues(file, Uint16Array.from(rows, toBf16))
  }

  /** MoE++'s map of the logits of the layer before. */
  #gateMap(layer) {
    const { experts: E, share } = this.shape
    const normal = normalFrom(randomFrom(this.#layerSeed(layer) + 500_000))
    return Uint16Array.from({ length: E * E }, () => (share === 1 ? 0 : toBf16(STD * normal())))
  }

  #layerSeed(layer) {
    return this.seed * 1000 + layer
  }
}

/** All of it: a write may take only a part. */
function writeValues(file, values) {
  const bytes = Buffer.from(values.buffer, values.byteOffset, values.byteLength)
  for (let done = 0; done < bytes.length; ) done += writeSync(file, bytes, done)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { shape, ...options } = readArguments(process.argv.slice(2), SYNTHETIC, 'shape', checkZero)
  console.log(synthetic(shape, options))
}
