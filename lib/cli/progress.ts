/** A progress bar on standard error: on a terminal only, for work of more than a second. */

import { SingleBar } from 'cli-progress'
import { formatBytes, formatDuration } from './format.js'
import type { Terminal } from './terminal.js'

const SHOW_AFTER_MS = 1000

export class Progress implements Disposable {
  readonly #terminal: Pick<Terminal, 'stderr' | 'stderrIsTerminal'>
  #stage = ''
  #startedMs = 0
  #bar: SingleBar | undefined

  constructor(terminal: Pick<Terminal, 'stderr' | 'stderrIsTerminal'>) {
    this.#terminal = terminal
  }

  /**
   * `stage` names the work; another stage begins a new bar. `detail` is shown after the figures,
   * which are bytes unless `format` says otherwise.
   */
  update(stage: string, done: number, total: number, detail = '', format = formatBytes): void {
    if (!this.#terminal.stderrIsTerminal) return
    if (stage !== this.#stage) {
      this.stop()
      this.#stage = stage
      this.#startedMs = performance.now()
    }
    const figures = { done: format(done), all: format(total), detail }
    if (this.#bar) {
      this.#bar.setTotal(total)
      this.#bar.update(done, figures)
    } else if (done < total && performance.now() - this.#startedMs > SHOW_AFTER_MS) {
      this.#bar = new SingleBar({
        format: `${stage} {bar} {percentage} % | {done} of {all} | {eta_formatted} left {detail}`,
        // Without progress there is no estimate: 'INF' or 'NULL'.
        formatTime: seconds => (Number.isFinite(seconds) ? formatDuration(seconds) : '?'),
        barCompleteChar: '\u2588',
        barIncompleteChar: '\u2591',
        barsize: 30,
        clearOnComplete: true,
        hideCursor: true,
        // Ctrl-C is handled once for the whole command.
        gracefulExit: false,
        stream: this.#terminal.stderr,
      })
      this.#bar.start(total, done, figures)
    }
  }

  /** Removes the bar from the screen. */
  stop(): void {
    this.#bar?.stop()
    this.#bar = undefined
    this.#stage = ''
  }

  [Symbol.dispose](): void {
    this.stop()
  }
}
