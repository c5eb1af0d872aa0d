// One step of a set-up, in one line: its commands' output goes to a log, and is shown only if one
// of them fails. On a terminal the line is rewritten, with the compiled files and the seconds.
import { spawn } from 'node:child_process'
import { closeSync, mkdirSync, openSync, readFileSync, writeSync } from 'node:fs'
import { constants } from 'node:os'
import { join, relative } from 'node:path'
import { root } from './build-native.mjs'

/** Lines of a log that are printed when a step fails. */
const SHOWN_LINES = 200
/** Milliseconds that an interrupted command has to end by itself. */
const GRACE_MS = 500
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP']

/**
 * The progress that a line tells: ninja's `[3/51] Building` is "[3/51] ", make's `[ 25%] Building`
 * "[25 %] ", and tsc's line has "". Undefined for a line that speaks of no work.
 */
export function progressOf(line) {
  if (/ - Building project /.test(line)) return ''
  const [, done, total] = /^\[ *(\d+)(?:\/(\d+)|%)\] (?!Built target)/.exec(line) ?? []
  // ninja's look at globbed folders is "[0/2]".
  if (done === undefined || done === '0') return undefined
  return total ? `[${done}/${total}] ` : `[${done} %] `
}

/** The end of a log, and the path of the whole if there is more. */
export function tailOf(log, path) {
  const lines = log.trimEnd().split('\n')
  if (lines.length <= SHOWN_LINES) return lines.join('\n')
  const tail = lines.slice(-SHOWN_LINES).join('\n')
  return `${tail}\nmoepp: these are the last ${SHOWN_LINES} lines of ${path}`
}

/**
 * Runs a command and passes its output to `onText`. The command and its children are a process
 * group, which ends when this process is interrupted. Left alone, npm ci would go on writing to
 * node_modules while a retry deletes it.
 */
function runGroup(command, args, onText, options) {
  return new Promise((resolve, reject) => {
    const stdio = ['ignore', 'pipe', 'pipe']
    const grouped = process.platform !== 'win32'
    let interrupted
    const interrupt = signal => {
      interrupted ??= signal
      kill('SIGTERM')
      setTimeout(kill, GRACE_MS, 'SIGKILL').unref()
    }
    // Before the command begins: an interrupt that came between would leave it alone.
    for (const signal of SIGNALS) process.on(signal, interrupt)
    const child = spawn(command, args, { cwd: root, ...options, stdio, detached: grouped })
    const kill = signal => {
      try {
        if (grouped) process.kill(-child.pid, signal)
        else child.kill(signal)
      } catch {
        // It has ended.
      }
    }
    const ended = () => {
      for (const signal of SIGNALS) process.off(signal, interrupt)
    }
    child.stdout.on('data', onText)
    child.stderr.on('data', onText)
    child.on('error', error => {
      ended()
      reject(error)
    })
    child.on('close', (status, signal) => {
      ended()
      if (interrupted) kill('SIGKILL')
      resolve({ status: status ?? 128 + constants.signals[signal], interrupted })
    })
  })
}

/**
 * Runs `work(run)`, where `run(command, args, options)` is one command of the step. A command that
 * fails ends this process with its status; an interrupt ends it once the command has ended.
 * `doing` and `done` say what the step does and did: "installing packages", "installed packages".
 * A step that is not `due` may find nothing to do: it says nothing before a command tells of work.
 * True if there was work.
 */
export async function step(doing, done, work, { due = true, out = process.stderr } = {}) {
  const started = performance.now()
  const seconds = digits => ((performance.now() - started) / 1000).toFixed(digits)
  const path = join(root, 'build', 'logs', `${doing.replaceAll(' ', '-')}.log`)
  mkdirSync(join(root, 'build', 'logs'), { recursive: true })
  const log = openSync(path, 'w')
  let progress = ''
  let note = ''
  let shown = ''
  const clear = out.isTTY ? '\r\x1b[K' : ''
  const show = () => {
    const line = out.isTTY
      ? `${clear}moepp: ${doing} ${progress}${seconds(0)} s`
      : `moepp: ${doing}\n`
    if (line !== shown) out.write(line)
    shown = line
  }
  const timer = out.isTTY ? setInterval(show, 250) : undefined
  const end = text => {
    clearInterval(timer)
    closeSync(log)
    out.write(text === undefined ? clear : `${clear}moepp: ${text}\n`)
  }

  const onText = text => {
    writeSync(log, text)
    for (const line of text.toString().split('\n')) {
      // CMake's decision: a CPU build, or one with CUDA kernels.
      note = /^-- moepp: (.*)/.exec(line)?.[1] ?? note
      const told = progressOf(line)
      if (told === undefined) continue
      progress = told
      due = true
      show()
    }
  }
  const run = async (command, args, options) => {
    const { status, interrupted } = await runGroup(command, args, onText, options).catch(error => {
      end(`${command} could not be run: ${error.message}`)
      process.exit(1)
    })
    if (interrupted) {
      end(`interrupted while ${doing}`)
      process.exit(128 + constants.signals[interrupted])
    }
    if (status === 0) return
    end(`${doing} failed: ${[command, ...args].join(' ')}`)
    out.write(`${tailOf(readFileSync(path, 'utf8'), relative(root, path))}\n`)
    process.exit(status)
  }

  if (due) show()
  await work(run)
  end(due ? `${done} in ${seconds(1)} s${note && ` (${note})`}` : undefined)
  return due
}
