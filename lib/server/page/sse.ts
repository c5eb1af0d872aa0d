/** Server-sent events, as the HTML standard parses them; only the field `data` is of use here. */

/** Splits text into events, wherever the pieces of it end. */
export class EventParser {
  #line = ''
  #data: string[] = []
  /** The last piece ended with a CR, so that an LF belongs to it. */
  #afterCr = false

  /** The data of the events that `text` completes. */
  push(text: string): string[] {
    const events: string[] = []
    const fresh = this.#afterCr && text.startsWith('\n') ? text.slice(1) : text
    if (text !== '') this.#afterCr = text.endsWith('\r')
    const lines = (this.#line + fresh).split(/\r\n|\n|\r/)
    this.#line = lines.pop()!
    for (const line of lines) {
      const event = this.#take(line)
      if (event !== undefined) events.push(event)
    }
    return events
  }

  /** An empty line ends an event; one without data is none. */
  #take(line: string): string | undefined {
    if (line === '') {
      const event = this.#data.length > 0 ? this.#data.join('\n') : undefined
      this.#data = []
      return event
    }
    const [, field, value = ''] = /^([^:]*)(?:: ?(.*))?$/s.exec(line)!
    if (field === 'data') this.#data.push(value)
    return undefined
  }
}

/** The data of each event of a body. Characters may be split between its chunks. */
export async function* eventsOf(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const reader = body.getReader()
  const decoder = new TextDecoder()
  const parser = new EventParser()
  try {
    for (;;) {
      const { done, value } = await reader.read()
      if (done) return
      yield* parser.push(decoder.decode(value, { stream: true }))
    }
  } finally {
    await reader.cancel().catch(() => {})
  }
}
