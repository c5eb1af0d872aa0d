/** The page's data, unpacked. */
import type {
  Packed,
  PackedColumn,
  PackedPaths,
  PackedSample,
  PageData,
  SampleLayer,
} from '../page-format.js'
import { PATH_BLOCK } from '../page-format.js'
import type { RoutingReport } from '../types.js'

export interface Unpacked {
  readonly report: RoutingReport
  /** One for each subject. */
  readonly samples: readonly (SampleText | undefined)[]
}

export async function unpacked(json: string): Promise<Unpacked> {
  const { report, samples }: PageData = JSON.parse(json)
  return {
    report: JSON.parse(await textOf(report)),
    samples: await Promise.all(
      samples.map(async sample => (sample === null ? undefined : SampleText.of(sample))),
    ),
  }
}

/** A pick of a token in a layer. A number that was not finite is NaN. */
export interface Pick {
  readonly expert: number
  readonly weight: number
  readonly logit: number
  /** The share of its input that a constant expert replaces. */
  readonly replaced: number
}

/** n tokens of a text, and their routing. Paths are unpacked when they are first asked for. */
export class SampleText {
  readonly layers: readonly SampleLayer[]
  /** Tokens whose paths are known. */
  readonly pathTokens: number
  readonly length: number
  readonly #dictionary: readonly (readonly [token: number, text: string])[]
  readonly #entries: Float64Array
  /** [L, n] */
  readonly #ffnExperts: Uint8Array
  readonly #starts: PackedSample['starts']
  readonly #packed: readonly PackedPaths[]
  readonly #blocks = new Map<number, Promise<Paths>>()

  private constructor(
    packed: PackedSample,
    dictionary: readonly (readonly [number, string])[],
    entries: Float64Array,
    ffnExperts: Uint8Array,
  ) {
    this.length = packed.tokens
    this.layers = packed.layers
    this.pathTokens = packed.pathTokens
    this.#starts = packed.starts
    this.#packed = packed.paths
    this.#dictionary = dictionary
    this.#entries = entries
    this.#ffnExperts = ffnExperts
  }

  static async of(packed: PackedSample): Promise<SampleText> {
    const dictionary = JSON.parse(await textOf(packed.dictionary))
    const entries = await numbersOf(packed.entries)
    return new SampleText(packed, dictionary, entries, await bytesOf(packed.ffnExperts))
  }

  /** The id of token `i`. */
  id(i: number): number {
    return this.#dictionary[this.#entries[i]!]![0]
  }

  /** The characters that token `i` completes. */
  text(i: number): string {
    return this.#dictionary[this.#entries[i]!]![1]
  }

  /** FFN experts of token `i` in the layer at place `at`. */
  ffnExperts(i: number, at: number): number {
    return this.#ffnExperts[at * this.length + i]!
  }

  /** Mean FFN experts of token `i` over layers. */
  meanFfnExperts(i: number): number {
    let sum = 0
    for (let at = 0; at < this.layers.length; at++) sum += this.ffnExperts(i, at)
    return sum / Math.max(this.layers.length, 1)
  }

  /** The most FFN experts that a token can have in one layer. */
  get most(): number {
    return this.layers.reduce((most, { topK }) => Math.max(most, topK), 1)
  }

  /** The number of the window of token `i`, and its place there. */
  place(i: number): { window: number; position: number } {
    const at = this.#starts.findLastIndex(([first]) => first <= i)
    const [first, window, position] = this.#starts[at] ?? [0, 0, 0]
    return { window, position: position + i - first }
  }

  /** The first tokens of windows: each is computed as a text of its own. */
  get windowStarts(): number[] {
    return this.#starts.map(([first]) => first)
  }

  /** The picks of token `i`, a list for each layer; undefined if the page has none of it. */
  async path(i: number): Promise<Pick[][] | undefined> {
    if (i >= this.pathTokens) return undefined
    const block = Math.floor(i / PATH_BLOCK)
    const paths = this.#blocks.get(block) ?? pathsOf(this.#packed[block]!)
    this.#blocks.set(block, paths)
    const first = block * PATH_BLOCK
    const tokens = Math.min(PATH_BLOCK, this.pathTokens - first)
    return picksOf(await paths, this.layers, i - first, tokens)
  }
}

type Paths = Readonly<Record<keyof PackedPaths, Float64Array>>

async function pathsOf({ experts, weights, logits, replaced }: PackedPaths): Promise<Paths> {
  return {
    experts: await numbersOf(experts),
    weights: await numbersOf(weights),
    logits: await numbersOf(logits),
    replaced: await numbersOf(replaced),
  }
}

/** The picks of token `i` of a block. */
function picksOf(paths: Paths, layers: readonly SampleLayer[], i: number, tokens: number) {
  let begin = 0
  return layers.map(({ topK }) => {
    const first = begin + i * topK
    begin += tokens * topK
    return Array.from({ length: topK }, (_, k): Pick => {
      const at = first + k
      return {
        expert: paths.experts[at]!,
        weight: paths.weights[at]!,
        logit: paths.logits[at]!,
        replaced: paths.replaced[at]!,
      }
    })
  })
}

async function numbersOf({ data, bytes, least, step, hasHoles }: PackedColumn) {
  const Integers = bytes === 1 ? Uint8Array : bytes === 2 ? Uint16Array : Uint32Array
  const integers = new Integers((await bytesOf(data)).buffer)
  const numbers = new Float64Array(integers.length)
  for (let i = 0; i < numbers.length; i++) {
    const integer = integers[i]!
    numbers[i] = hasHoles && integer === 0 ? Number.NaN : (least + integer) * step
  }
  return numbers
}

async function bytesOf(packed: Packed): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = Uint8Array.from(atob(packed), character => character.charCodeAt(0))
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate-raw'))
  return new Uint8Array(await new Response(stream).arrayBuffer())
}

async function textOf(packed: Packed): Promise<string> {
  return new TextDecoder().decode(await bytesOf(packed))
}
