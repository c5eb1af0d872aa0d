/**
 * Keeps account of the pages of the KV cache and their tokens. The bytes are the device's.
 *
 * The pages that hold computed tokens form a tree: a page's path from the root is the whole text
 * before and in it. Two sequences that begin alike share the full pages of their common beginning.
 * The next step copies a page that agrees only in its first tokens, and writes to the copy. A
 * sequence's last, unfinished page is its own, so no sequence writes to a page that others read.
 * Pages that no sequence uses stay in the tree until their room is needed.
 *
 * A token counts as the same only with the same variant of keys: see runner.ts.
 */
import type { Runner } from './runner.js'

/** Tokens with the variant of each one's keys. */
export interface TokenRow {
  readonly tokens: readonly number[]
  readonly keyVariants: readonly number[]
}

export interface Page {
  /** In the device's cache. */
  readonly index: number
  /** Tokens that are computed, at most pageSize. */
  readonly tokens: number[]
  readonly keyVariants: number[]
  /**
   * The page before it in the text; undefined at the start of a text, and before the page holds any
   * token.
   */
  parent: Page | undefined
  readonly children: Set<Page>
  /** Sequences that hold it. */
  users: number
}

/**
 * The pages of a sequence, and how many of its tokens they hold, or will when the next step has
 * made its copies.
 */
export interface OpenedPages {
  readonly pages: Page[]
  readonly computed: number
}

interface Match {
  /** Full pages that agree in every token. */
  readonly pages: Page[]
  /** A page that agrees in its first `partialTokens`. */
  readonly partial: Page | undefined
  readonly partialTokens: number
}

/** The first tokens of a sequence's page, to be copied from another, which is held until then. */
interface Copy {
  readonly source: Page
  readonly pages: Page[]
  readonly row: TokenRow
  readonly from: number
  readonly to: number
}

export class KvPages {
  readonly pageSize: number
  readonly total: number
  readonly #free: number[]
  /** First pages of texts. */
  readonly #roots = new Set<Page>()
  /**
   * Pages in the tree that no sequence holds, in the order in which they were given up. A sequence
   * that holds a page holds those before it, and gives them up later. So a page comes after all
   * pages that continue it.
   */
  readonly #unused = new Set<Page>()
  /** By the page to be written. */
  readonly #copies = new Map<Page, Copy>()
  #shared = 0

  constructor(runner: Pick<Runner, 'pages' | 'pageSize'>) {
    this.pageSize = runner.pageSize
    this.total = runner.pages
    this.#free = Array.from({ length: runner.pages }, (_, i) => runner.pages - 1 - i)
  }

  /** Pages that can be had: free ones, and those that would be evicted. */
  get available(): number {
    return this.#free.length + this.#unused.size
  }

  /** Pages that no sequence holds, but whose tokens may be used again. */
  get cached(): number {
    return this.#unused.size
  }

  /** Pages that several sequences hold. */
  get shared(): number {
    return this.#shared
  }

  /** Number of the first `limit` tokens that are in the cache. */
  cachedTokens(row: TokenRow, limit: number): number {
    const { pages, partialTokens } = this.#match(row, limit)
    return pages.length * this.pageSize + partialTokens
  }

  /**
   * Pages for all tokens of `row`, the first ones with what the cache has of the first `reusable`
   * tokens. Undefined if that would leave fewer than `spare` pages available.
   */
  open(row: TokenRow, reusable: number, spare: number): OpenedPages | undefined {
    const { pages, partial, partialTokens } = this.#match(row, reusable)
    const needed = Math.ceil(row.tokens.length / this.pageSize) - pages.length
    for (const page of pages) this.#hold(page)
    // Holding it while pages are taken keeps it from eviction. It goes only if no other room is
    // left.
    let source = partial
    if (source) this.#hold(source)
    if (source && this.available < needed + spare) {
      this.#release(source)
      source = undefined
    }
    if (this.available < needed + spare) {
      this.close(pages)
      return undefined
    }
    const shared = pages.length
    for (let i = 0; i < needed; i++) pages.push(this.#take())
    let computed = shared * this.pageSize
    if (source) {
      const to = computed + partialTokens
      this.#copies.set(pages[shared]!, { source, pages, row, from: computed, to })
      computed = to
    }
    return { pages, computed }
  }

  /**
   * Pages for all tokens of `row`, which a file has and no step computes. The first `shared` of
   * them hold their tokens already. Undefined if that would leave fewer than `spare` pages
   * available.
   */
  reserve(row: TokenRow, spare: number): { pages: Page[]; shared: number } | undefined {
    const { pages } = this.#match(row, row.tokens.length)
    const shared = pages.length
    const needed = Math.ceil(row.tokens.length / this.pageSize) - shared
    for (const page of pages) this.#hold(page)
    if (this.available < needed + spare) {
      this.close(pages)
      return undefined
    }
    for (let i = 0; i < needed; i++) pages.push(this.#take())
    return { pages, shared }
  }

  /** Copies that the next step must make: see Step. If a step fails, the one after makes them. */
  copies(): Int32Array {
    return Int32Array.from(
      [...this.#copies].flatMap(([page, { source }]) => [source.index, page.index]),
    )
  }

  /** Notes that a step has made the copies. */
  recordCopies(): void {
    for (const { source, pages, row, from, to } of this.#copies.values()) {
      this.record(pages, row, from, to)
      this.#release(source)
    }
    this.#copies.clear()
  }

  /** Adds a page at the end; false if none is left. */
  extend(pages: Page[]): boolean {
    if (this.available === 0) return false
    pages.push(this.#take())
    return true
  }

  /**
   * Notes that the tokens `from` .. `to` - 1 of `row` are computed. May replace a page by an equal
   * one.
   */
  record(pages: Page[], row: TokenRow, from: number, to: number): void {
    for (let position = from; position < to; position++) {
      const at = Math.floor(position / this.pageSize)
      const page = pages[at]!
      if (page.tokens.length === 0) this.#link(page, pages[at - 1])
      page.tokens.push(row.tokens[position]!)
      page.keyVariants.push(row.keyVariants[position]!)
      if (page.tokens.length < this.pageSize) continue
      const twin = this.#covering(page)
      if (!twin) continue
      // Held twice, with the same bits: one of them is enough.
      this.#hold(twin)
      pages[at] = twin
      this.#discard(page)
    }
  }

  /**
   * Gives up a sequence's pages. Those with computed tokens stay for others until their room is
   * needed.
   */
  close(pages: readonly Page[]): void {
    for (const page of [...pages].reverse()) this.#release(page)
  }

  #match(row: TokenRow, limit: number): Match {
    const pages: Page[] = []
    let siblings: ReadonlySet<Page> = this.#roots
    for (;;) {
      const start = pages.length * this.pageSize
      let best: Page | undefined
      let bestTokens = 0
      for (const page of siblings) {
        const tokens = commonTokens(page, row, start, limit - start)
        if (tokens <= bestTokens) continue
        best = page
        bestTokens = tokens
        if (tokens === this.pageSize) break
      }
      if (!best || bestTokens < this.pageSize)
        return { pages, partial: best, partialTokens: bestTokens }
      pages.push(best)
      siblings = best.children
    }
  }

  /** A sibling that holds all tokens of `page`. */
  #covering(page: Page): Page | undefined {
    const { length } = page.tokens
    for (const sibling of this.#siblings(page)) {
      if (sibling !== page && commonTokens(sibling, page, 0, length) === length) return sibling
    }
    return undefined
  }

  #siblings(page: Page): Set<Page> {
    return page.parent?.children ?? this.#roots
  }

  #link(page: Page, parent: Page | undefined): void {
    page.parent = parent
    this.#siblings(page).add(page)
  }

  #hold(page: Page): void {
    if (page.users === 0) this.#unused.delete(page)
    page.users++
    if (page.users === 2) this.#shared++
  }

  #release(page: Page): void {
    page.users--
    if (page.users === 1) this.#shared--
    if (page.users > 0) return
    const copy = this.#copies.get(page)
    if (copy) {
      this.#copies.delete(page)
      this.#release(copy.source)
    }
    const isUnfinished = page.tokens.length < this.pageSize
    if (page.tokens.length === 0 || (isUnfinished && this.#covering(page))) this.#discard(page)
    else this.#unused.add(page)
  }

  /** A page with one user. There must be one available. */
  #take(): Page {
    if (this.#free.length === 0) this.#evict()
    const index = this.#free.pop()!
    return { index, tokens: [], keyVariants: [], parent: undefined, children: new Set(), users: 1 }
  }

  /** Drops the page that was unused for longest. No other page continues it. */
  #evict(): void {
    const [oldest] = this.#unused
    this.#unused.delete(oldest!)
    this.#discard(oldest!)
  }

  #discard(page: Page): void {
    this.#siblings(page).delete(page)
    this.#free.push(page.index)
  }
}

/**
 * Number of tokens of `page`, from its first and at most `limit`, equal to those of `row` from
 * `start`.
 */
function commonTokens(page: TokenRow, row: TokenRow, start: number, limit: number): number {
  const most = Math.min(page.tokens.length, limit)
  let n = 0
  while (
    n < most &&
    page.tokens[n] === row.tokens[start + n] &&
    page.keyVariants[n] === row.keyVariants[start + n]
  ) {
    n++
  }
  return n
}
