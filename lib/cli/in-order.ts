/** Work on a stream of requests, several at once, with the answers in order. */

/** Requests that are computed, or wait for their turn to be written. It bounds the memory. */
const MOST_IN_FLIGHT = 32

/**
 * Answers the requests and writes the answers in the requests' order. An answer is written as soon
 * as it can be: a program may wait for it before it sends the next request.
 *
 * `onFailure` is told at once if an answer or its writing fails, and should end `rest`.
 */
export async function inOrder<Request, Answer>(
  first: Request,
  rest: AsyncIterable<Request>,
  answer: (request: Request) => Promise<Answer>,
  write: (answer: Answer) => Promise<void>,
  onFailure: (error: unknown) => void,
): Promise<void> {
  const inFlight: Promise<void>[] = []
  let failure: { readonly error: unknown } | undefined
  let last: Promise<void> = Promise.resolve()
  const turn = async (request: Request, before: Promise<void>) => {
    const ready = await answer(request)
    await before
    await write(ready)
  }
  try {
    for await (const request of startingWith(first, rest)) {
      last = turn(request, last)
      last.catch(error => {
        failure ??= { error }
        onFailure(error)
      })
      inFlight.push(last)
      if (inFlight.length >= MOST_IN_FLIGHT) await inFlight.shift()
    }
    await last
  } catch (error) {
    // The reading fails too once onFailure has ended it: the first failure is the reason.
    throw failure ? failure.error : error
  }
}

async function* startingWith<T>(first: T, rest: AsyncIterable<T>): AsyncGenerator<T, void> {
  yield first
  yield* rest
}
