/** The side of a GuardedWorker that runs in the thread. */
import { parentPort } from 'node:worker_threads'
import type { Answer } from './guarded-worker.js'

/** Answers every request of the owner. An exception's message becomes a WorkerError there. */
export function serve<Request, Reply>(handle: (request: Request) => Reply | Promise<Reply>): void {
  parentPort!.on('message', async (request: Request) => {
    parentPort!.postMessage(await answer(handle, request))
  })
}

async function answer<Request, Reply>(
  handle: (request: Request) => Reply | Promise<Reply>,
  request: Request,
): Promise<Answer<Reply>> {
  try {
    return { reply: await handle(request) }
  } catch (error) {
    return { error: error instanceof Error ? error.message : String(error) }
  }
}
