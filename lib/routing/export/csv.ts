/** Tables as RFC 4180 has them: commas, CRLF, quotes where a field needs them. UTF-8, no BOM. */

/** null is an empty field. */
export type Cell = string | number | null

/** Text that begins with =, +, - or @ stays as it is: a spreadsheet may take it for a formula. */
export function csvLine(cells: readonly Cell[]): string {
  return `${cells.map(field).join(',')}\r\n`
}

function field(cell: Cell): string {
  if (cell === null) return ''
  if (typeof cell === 'number') return String(cell)
  return /[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell
}
