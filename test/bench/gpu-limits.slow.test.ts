/**
 * bench/gpu.sh where something hangs, crashes, or ends the script itself. Machines run side by
 * side, because they wait for limits, and limits that must not expire are long.
 */
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { H100, machineOf } from './gpu-stand-ins.js'

const skip = process.platform !== 'linux' && 'the stand-ins are shell scripts of Linux'

t.test('a failure, a hang or a crash costs only itself', { skip }, async t => {
  const [tests, stage, bench] = await Promise.all([
    machineOf(t).run(['tests', 'table'], {
      TESTS: 'simt_fails simt_hangs simt_crashes simt_killed simt_passes',
      MOEPP_TEST_SECONDS: '6',
    }),
    machineOf(t).run(['tests'], {
      TESTS: 'simt_one_hangs simt_two_passes',
      MOEPP_STAGE_SECONDS: '6',
    }),
    machineOf(t, {
      ...H100,
      facts: {
        'clocks_event_reasons.active': '[N/A]',
        'clocks_throttle_reasons.active': '0x0000000000000044',
      },
    }).run(['bench', 'table'], { BENCHES: 'b_hangs c_too_large d', MOEPP_BENCH_SECONDS: '6' }),
  ])
  t.match(tests, { status: 1, last: 'SOMETHING FAILED', stdout: /^table: FAILED, /m })
  t.match(
    tests.file('tests.txt'),
    /^FAIL .*simt_fails\n(.*\n)*? {4}.*got 3\n(.*\n)*?HANG .*simt_hangs\n(.*\n)*? {4}before the hang\n(.*\n)*?CRASH .*simt_crashes\n(.*\n)*?CRASH .*simt_killed\n( {4}.*\n)* {4}.*perhaps .* too little memory\nPASS .*simt_passes\n$/,
  )
  t.match(
    tests.stdout,
    /^tests: FAILED, \d+ s; 1 PASS, 1 FAIL, 1 HANG, 2 CRASH: FAIL simt_fails HANG simt_hangs CRASH/m,
  )
  t.equal(stage.status, 1)
  t.match(stage.file('tests.txt'), /^HANG .*\n(.*\n)*?NOT RUN +0\.0 s {2}simt_two_passes\n$/)
  t.equal(bench.status, 1)
  t.match(
    bench.file('summary.txt'),
    /^bench: FAILED, \d+ s; 9 PASS, 1 HANG: HANG b_hangs; c_too_large does not fit; \ntable: right/,
  )
  t.match(bench.file('bench.txt'), /^HANG: b_hangs$/m)
  t.match(bench.file('bench.txt'), /^run bench --device=cuda --exact d$/m)
  t.match(bench.file('bench.txt'), /^clocks were lowered: power limit;heat \(hardware\)$/m)
})

t.test('a device that does not open in time, experts that crash', { skip }, async t => {
  const made = machineOf(t)
  const hung = await made.run(['tests'], { DEVICE_HANGS: '1', MOEPP_TEST_SECONDS: '1' })
  t.match(hung, { status: 1, stdout: /^device: FAILED, HANG: \nSOMETHING FAILED$/m })
  t.notOk(hung.files.includes('tests.txt'))
  const crashed = await made.run(['expert-forward'], { EXPERTS_CRASH: '1' })
  t.equal(crashed.status, 1)
  t.match(crashed.stdout, /; CRASH 1,8,64,512 tokens CRASH 2048,8192 tokens$/m)
})

t.test('nothing of it outlives it', { skip }, async t => {
  const until = async (what: string, done: () => boolean) => {
    for (let rounds = 0; rounds < 1200 && !done(); rounds++) await sleep(50)
    t.ok(done(), what)
  }
  const end = async (stage: string, signal: 'SIGTERM' | 'SIGINT' | 'SIGKILL') => {
    const made = machineOf(t)
    const child = made.start([stage], {
      TESTS: 'simt_hangs simt_two',
      BENCHES: 'b_hangs c',
      MOEPP_BENCH_SECONDS: '6',
    })
    const ended = once(child, 'exit')
    const output = join(made.folder, 'out/.output')
    await until(`${stage} hangs`, () => {
      return existsSync(output) && readFileSync(output, 'utf8').includes('before the hang')
    })
    t.ok(made.alive() > 2)
    child.kill(signal)
    const [status] = await ended
    if (signal !== 'SIGKILL') {
      t.equal(status, 143)
      t.equal(made.alive(), 0, `${stage}, ${signal}`)
    }
    // KILL cannot be caught: what runs has its time limit, and nothing more is started.
    await until(`${stage}, ${signal}: all have ended`, () => made.alive() === 0)
    t.notMatch(readFileSync(join(made.folder, 'out', `${stage}.txt`), 'utf8'), /^run .* c$/m)
  }
  await Promise.all([end('tests', 'SIGTERM'), end('bench', 'SIGINT'), end('bench', 'SIGKILL')])
})
