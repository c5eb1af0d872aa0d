/** The text that each token id decodes to. */

export interface PieceTable {
  /** By id; undefined where there is no such token. U+2581 is a space here. */
  readonly texts: readonly (string | undefined)[]
  /** By id: the bytes of tokens that are no text by themselves. */
  readonly bytes: ReadonlyMap<number, Uint8Array>
  /** By id: 1 if the text begins with U+2581, which the first piece of a text loses. */
  readonly prefixed: Uint8Array
  readonly special: ReadonlySet<number>
  /** True: the first piece loses its space, because encoding put one in front. */
  readonly dropsFirstSpace: boolean
  /**
   * True: as the byte-level form decodes. Bytes that make no character give one U+FFFD for each
   * maximal part of one. Ids that give no text do not end a character.
   */
  readonly isByteLevel: boolean
}

export interface TokenEntry {
  readonly id: number
  readonly content: string
  /** The bytes that the token stands for, instead of the content. */
  readonly bytes?: Uint8Array | undefined
  readonly special?: boolean
  /** Decodes to this text, as it is, instead of the content. */
  readonly surface?: string | undefined
}

export function pieceTable(
  entries: readonly TokenEntry[],
  { dropsFirstSpace = false, isByteLevel = false } = {},
): PieceTable {
  const size = entries.reduce((most, entry) => Math.max(most, entry.id + 1), 0)
  const texts: (string | undefined)[] = new Array(size).fill(undefined)
  const listed = new Map<number, Uint8Array>()
  const prefixed = new Uint8Array(size)
  const special = new Set<number>()
  for (const { id, content, bytes, special: isSpecial, surface } of entries) {
    if (isSpecial) special.add(id)
    if (bytes) listed.set(id, bytes)
    const isOrdinary = !isSpecial && surface === undefined
    texts[id] = isOrdinary ? content.replaceAll('\u2581', ' ') : (surface ?? content)
    prefixed[id] = Number(isOrdinary && content.startsWith('\u2581'))
  }
  return { texts, bytes: listed, prefixed, special, dropsFirstSpace, isByteLevel }
}
