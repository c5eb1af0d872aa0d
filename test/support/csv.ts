/** The parser of CSV that Observable Plot brings along; it has no types. */

interface Parser {
  csvParseRows(text: string): string[][]
}

export const { csvParseRows } = (await import('d3-dsv' as string)) as Parser
