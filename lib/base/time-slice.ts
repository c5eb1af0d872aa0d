/** Long work on the main thread, in slices between which other events run. */
import { setImmediate } from 'node:timers/promises'

/** Well below the 10 ms of an interactive timer. */
const SLICE_MS = 4

export class TimeSlice {
  #start = performance.now()

  /** Begins a new slice without a pause: after a wait, in which others could run. */
  restart(): void {
    this.#start = performance.now()
  }

  /** Lets other events run if the slice is over. */
  async pauseIfOver(): Promise<void> {
    if (performance.now() - this.#start < SLICE_MS) return
    await setImmediate()
    this.#start = performance.now()
  }
}
