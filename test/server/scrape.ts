/** Reads Prometheus' text format. */

/** A value by its series, as the text has it: `name{label="value"}`; model_name is left out. */
export type Scrape = ReadonlyMap<string, number>

export function parseScrape(text: string): Scrape {
  const lines = text.split('\n').filter(line => line !== '' && !line.startsWith('#'))
  return new Map(
    lines.map(line => {
      const at = line.lastIndexOf(' ')
      const series = line.slice(0, at).replace(/,?model_name="(?:[^"\\]|\\.)*"/, '')
      return [series.replace('{,', '{').replace('{}', ''), Number(line.slice(at + 1))]
    }),
  )
}

/** Names of metrics, those of a histogram's series included. */
export function namesOf(scrape: Scrape): ReadonlySet<string> {
  return new Set([...scrape.keys()].map(series => series.split('{')[0]!))
}
