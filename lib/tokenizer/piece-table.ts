/** The text that each token id decodes to. */

export interface PieceTable {
  /** By id; undefined where there is no such token. U+2581 is a space here. */
  readonly texts: readonly (string | undefined)[]
  /** By id: the byte that the token stands for, or -1. */
  readonly bytes: Int16Array
  /** By id: 1 if the text begins with U+2581, which the first piece of a text loses. */
  readonly prefixed: Uint8Array
  readonly special: ReadonlySet<number>
  /** True: the first piece loses its space, because encoding put one in front. */
  readonly dropsFirstSpace: boolean
}

export interface TokenEntry {
  readonly id: number
  readonly content: string
  /** The byte that the token stands for. */
  readonly byte?: number | undefined
  readonly special?: boolean
  /** Decodes to this text, as it is, instead of the content. */
  readonly surface?: string | undefined
}

export function pieceTable(entries: readonly TokenEntry[], dropsFirstSpace: boolean): PieceTable {
  const size = entries.reduce((most, entry) => Math.max(most, entry.id + 1), 0)
  const texts: (string | undefined)[] = new Array(size).fill(undefined)
  const bytes = new Int16Array(size).fill(-1)
  const prefixed = new Uint8Array(size)
  const special = new Set<number>()
  for (const { id, content, byte, special: isSpecial, surface } of entries) {
    if (isSpecial) special.add(id)
    bytes[id] = byte ?? -1
    const isOrdinary = !isSpecial && surface === undefined
    texts[id] = isOrdinary ? content.replaceAll('\u2581', ' ') : (surface ?? content)
    prefixed[id] = Number(isOrdinary && content.startsWith('\u2581'))
  }
  return { texts, bytes, prefixed, special, dropsFirstSpace }
}
