/**
 * Reads the needed and exported symbols of a Linux shared library: ELF, 64 bits, little endian. A
 * test machine may lack binutils.
 */

interface Section {
  readonly name: string
  readonly type: number
  readonly offset: number
  readonly size: number
  readonly link: number
  readonly info: number
}

export interface SharedLibrary {
  /** Libraries that must be there, sorted. */
  readonly needed: readonly string[]
  /** Versions of symbols that those must have: `GLIBC_2.17`. */
  readonly versions: readonly string[]
  /** Names that it shows to others. */
  readonly exports: readonly string[]
  /** Symbols that the linker needs no more are gone. */
  readonly stripped: boolean
}

const STRTAB_DYNAMIC = 6
const DYNSYM = 11
const SYMTAB = 2
const VERNEED = 0x6ffffffe
const DT_NEEDED = 1

export function readSharedLibrary(bytes: Buffer): SharedLibrary {
  if (bytes.readUInt32BE(0) !== 0x7f454c46 || bytes[4] !== 2 || bytes[5] !== 1)
    throw new Error('not a 64-bit little-endian ELF file')
  const sections = readSections(bytes)
  const of = (type: number) => sections.find(section => section.type === type)
  const text = (strings: Section, at: number) =>
    bytes.toString('latin1', strings.offset + at, bytes.indexOf(0, strings.offset + at))
  const symbols = of(DYNSYM)
  const dynamic = of(STRTAB_DYNAMIC)
  if (!symbols || !dynamic) throw new Error('no dynamic symbols')
  const strings = sections[symbols.link]!

  const needed: string[] = []
  for (let at = dynamic.offset; at < dynamic.offset + dynamic.size; at += 16) {
    if (Number(bytes.readBigInt64LE(at)) === DT_NEEDED)
      needed.push(text(strings, Number(bytes.readBigUInt64LE(at + 8))))
  }
  const exports: string[] = []
  for (let at = symbols.offset + 24; at < symbols.offset + symbols.size; at += 24) {
    const undefinedSection = bytes.readUInt16LE(at + 6) === 0
    const local = bytes[at + 4]! >> 4 === 0
    if (!undefinedSection && !local) exports.push(text(strings, bytes.readUInt32LE(at)))
  }
  return {
    needed: needed.sort(),
    versions: readVersions(bytes, of(VERNEED), strings, text),
    exports: exports.sort(),
    stripped: of(SYMTAB) === undefined,
  }
}

function readSections(bytes: Buffer): Section[] {
  const headers = Number(bytes.readBigUInt64LE(40))
  const size = bytes.readUInt16LE(58)
  const raw = Array.from({ length: bytes.readUInt16LE(60) }, (_, i) => {
    const at = headers + i * size
    return {
      nameAt: bytes.readUInt32LE(at),
      type: bytes.readUInt32LE(at + 4),
      offset: Number(bytes.readBigUInt64LE(at + 24)),
      size: Number(bytes.readBigUInt64LE(at + 32)),
      link: bytes.readUInt32LE(at + 40),
      info: bytes.readUInt32LE(at + 44),
    }
  })
  const names = raw[bytes.readUInt16LE(62)]!.offset
  return raw.map(({ nameAt, ...section }) => ({
    ...section,
    name: bytes.toString('latin1', names + nameAt, bytes.indexOf(0, names + nameAt)),
  }))
}

/** The chain of libraries, each with its chain of versions. */
function readVersions(
  bytes: Buffer,
  section: Section | undefined,
  strings: Section,
  text: (strings: Section, at: number) => string,
): string[] {
  const versions = new Set<string>()
  let library = section?.offset ?? 0
  for (let i = 0; i < (section?.info ?? 0); i++) {
    let version = library + bytes.readUInt32LE(library + 8)
    for (let j = 0; j < bytes.readUInt16LE(library + 2); j++) {
      versions.add(text(strings, bytes.readUInt32LE(version + 8)))
      version += bytes.readUInt32LE(version + 12)
    }
    library += bytes.readUInt32LE(library + 12)
  }
  return [...versions].sort(compareVersions)
}

/** `GLIBC_2.9` before `GLIBC_2.10`. */
export function compareVersions(a: string, b: string): number {
  return a.localeCompare(b, 'en', { numeric: true })
}
