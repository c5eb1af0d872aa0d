/**
 * A worker thread for work on untrusted input that may never end, or take all memory. Each call has
 * a deadline, and the thread a limit of memory. One that passes either is ended, and the next call
 * starts another.
 */
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'

export interface GuardedWorkerOptions {
  /** The module that the thread runs: it calls `serve` of worker-side.ts. */
  readonly file: URL
  /** Of the thread's JavaScript heap. */
  readonly memoryMegabytes: number
}

/** Work that was ended, not an error that it threw. */
export class WorkerFault extends Error {
  override readonly name = 'WorkerFault'
  readonly reason: 'time' | 'memory' | 'closed' | 'crash'

  constructor(reason: WorkerFault['reason'], message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.reason = reason
  }
}

/** The answer of the thread: worker-side.ts makes it. */
export type Answer<Reply> = { readonly reply: Reply } | { readonly error: string }

/** An exception of the module's own. */
export class WorkerError extends Error {
  override readonly name = 'WorkerError'
}

/** Requests and replies must be clonable. Calls run one after another. */
export class GuardedWorker<Request, Reply> implements Disposable {
  readonly #options: GuardedWorkerOptions
  #worker: Worker | undefined
  #last: Promise<unknown> = Promise.resolve()
  #isClosed = false

  constructor(options: GuardedWorkerOptions) {
    this.#options = options
  }

  /**
   * The module's reply. The deadline counts from the call's turn; starting the thread counts too.
   * @throws WorkerError with the module's message, or WorkerFault
   */
  call(request: Request, deadlineMs: number): Promise<Reply> {
    const turn = this.#last.then(() => this.#run(request, deadlineMs))
    this.#last = turn.catch(() => {})
    return turn
  }

  /** Ends the thread. A call that runs gets a WorkerFault. */
  close(): void {
    this.#isClosed = true
    this.#end()
  }

  [Symbol.dispose](): void {
    this.close()
  }

  async #run(request: Request, deadlineMs: number): Promise<Reply> {
    if (this.#isClosed) throw new WorkerFault('closed', 'the worker is closed')
    const worker = this.#started()
    const done = new AbortController()
    const timer = setTimeout(() => {
      done.abort(new WorkerFault('time', `took longer than ${deadlineMs} ms`))
    }, deadlineMs)
    // Only work that somebody waits for keeps the process alive.
    worker.ref()
    try {
      const message = once(worker, 'message', { signal: done.signal })
      const exit = once(worker, 'exit', { signal: done.signal }).then(() => {
        const reason = this.#isClosed ? 'closed' : 'crash'
        throw new WorkerFault(reason, `the worker ended (${reason})`)
      })
      exit.catch(() => {})
      worker.postMessage(request)
      const [answer] = (await Promise.race([message, exit])) as [Answer<Reply>]
      worker.unref()
      if ('error' in answer) throw new WorkerError(answer.error)
      return answer.reply
    } catch (error) {
      if (error instanceof WorkerError) throw error
      this.#end()
      throw faultOf(error, done.signal)
    } finally {
      clearTimeout(timer)
      done.abort()
    }
  }

  #started(): Worker {
    if (this.#worker) return this.#worker
    const worker = new Worker(this.#options.file, {
      // Nothing of this process's that the work does not need.
      env: {},
      execArgv: [],
      stdin: false,
      stdout: true,
      stderr: true,
      resourceLimits: {
        maxOldGenerationSizeMb: this.#options.memoryMegabytes,
        maxYoungGenerationSizeMb: 16,
      },
    })
    worker.unref()
    // An error while no call waits: the next call starts another thread.
    worker.on('error', () => this.#forget(worker))
    worker.on('exit', () => this.#forget(worker))
    this.#worker = worker
    return worker
  }

  #forget(worker: Worker): void {
    if (this.#worker === worker) this.#worker = undefined
  }

  #end(): void {
    const worker = this.#worker
    this.#worker = undefined
    void worker?.terminate()
  }
}

function faultOf(error: unknown, deadline: AbortSignal): WorkerFault {
  if (deadline.reason instanceof WorkerFault) return deadline.reason
  if (error instanceof WorkerFault) return error
  const { code, message } = error as NodeJS.ErrnoException
  if (code === 'ERR_WORKER_OUT_OF_MEMORY') return new WorkerFault('memory', message, error)
  return new WorkerFault('crash', message, error)
}
