// A client of the server that notes the time of each token, and loads of many of them.

import { setMaxListeners } from 'node:events'

/** The status of a request that the load ended. */
export const CUT = 0

/**
 * A streamed completion: its status, and the times at which it began, at which each token came, and
 * at which it ended.
 */
export async function complete(address, body, signal) {
  const result = { begun: performance.now(), times: [], status: CUT }
  try {
    const response = await fetch(`${address}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ ...body, stream: true, logprobs: 0 }),
      signal,
    })
    result.status = response.status
    if (response.status !== 200) result.error = await response.text()
    else
      for await (const event of events(response.body)) {
        if (event === '[DONE]') continue
        const { choices, error } = JSON.parse(event)
        if (error) throw new Error(error.message)
        for (const _ of choices[0]?.logprobs?.tokens ?? []) result.times.push(performance.now())
      }
  } catch (error) {
    if (!signal?.aborted) throw error
    result.status = CUT
  }
  return { ...result, ended: performance.now() }
}

/** The data of a stream's server-sent events. */
async function* events(body) {
  const decoder = new TextDecoder()
  let text = ''
  for await (const part of body) {
    text += decoder.decode(part, { stream: true })
    const whole = text.split('\n\n')
    text = whole.pop()
    for (const event of whole) if (event.startsWith('data: ')) yield event.slice(6)
  }
}

/**
 * The results of a load that lasts for `warm` and then `seconds`, which alone are measured. `load`
 * gets `send(signal)`, which notes the result of a request, and a signal that ends it all.
 */
export async function measured({ warm, seconds }, request, load) {
  const begun = performance.now()
  const stop = AbortSignal.timeout(1000 * (warm + seconds))
  // Each request listens.
  setMaxListeners(0, stop)
  const results = []
  const send = async () => {
    results.push(await request(stop))
  }
  await load(send, stop)
  const [from, to] = [begun + 1000 * warm, begun + 1000 * (warm + seconds)]
  const inside = time => time >= from && time <= to
  const tokens = results.flatMap(({ times }) => times).filter(inside).length
  return {
    tokensPerSecond: tokens / seconds,
    done: results.filter(({ status, ended }) => status === 200 && inside(ended)),
    refused: results.filter(({ status, ended }) => status === 429 && inside(ended)),
    failed: results.filter(({ status }) => ![200, 429, CUT].includes(status)),
    firsts: results.flatMap(({ times, begun }) => (inside(times[0]) ? [times[0] - begun] : [])),
    gaps: results.flatMap(({ times }) =>
      times.slice(1).flatMap((time, i) => (inside(time) ? [time - times[i]] : [])),
    ),
  }
}

/** A load of clients that send their next request when the last has ended. */
export function clients(count) {
  return async (send, stop) => {
    const client = async () => {
      while (!stop.aborted) await send()
    }
    await Promise.all(Array.from({ length: count }, client))
  }
}

/** The values that 50, 95 and 99 % of `values` are at most. */
export function quantiles(values) {
  const sorted = values.toSorted((a, b) => a - b)
  return [0.5, 0.95, 0.99].map(
    q => sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? Number.NaN,
  )
}
