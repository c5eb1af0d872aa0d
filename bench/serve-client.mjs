// A client of the server that notes the time of each token.

/**
 * A streamed completion: its status, the milliseconds that it took, and those at which each token
 * came.
 */
export async function complete(address, body, { signal } = {}) {
  const begun = performance.now()
  const since = () => performance.now() - begun
  const response = await fetch(`${address}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ ...body, stream: true, logprobs: 0 }),
    signal,
  })
  const times = []
  if (response.status !== 200) {
    const error = await response.text()
    return { status: response.status, ms: since(), times, error }
  }
  for await (const event of events(response.body)) {
    if (event === '[DONE]') continue
    const { choices, error } = JSON.parse(event)
    if (error) return { status: error.code, ms: since(), times, error }
    for (const _ of choices[0]?.logprobs?.tokens ?? []) times.push(since())
  }
  return { status: 200, ms: since(), times }
}

/** The data of a stream's server-sent events. */
export async function* events(body) {
  const decoder = new TextDecoder()
  let text = ''
  for await (const part of body) {
    text += decoder.decode(part, { stream: true })
    const whole = text.split('\n\n')
    text = whole.pop()
    for (const event of whole) if (event.startsWith('data: ')) yield event.slice(6)
  }
}

/** The values that 50, 95 and 99 % of `values` are at most. */
export function quantiles(values) {
  const sorted = values.toSorted((a, b) => a - b)
  return [0.5, 0.95, 0.99].map(
    q => sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? Number.NaN,
  )
}
