/** Groups of ranks through the binding: their mail, their programs' steps, and their ends. */
import t from 'tap'
import {
  fromNative,
  loadBinding,
  type NativeGroup,
  type NativeProgram,
  type ProgramSpec,
} from '../../lib/addon/binding.js'
import type { MoeppError } from '../../lib/errors.js'
import { ProgramBuilder } from '../../lib/program/builder.js'
import { collectTokens, dispatchTokens, routeTopK } from '../../lib/program/moe-ops.js'
import { attention, gatherRows, ropeStore, ropeTable, topLogits } from '../../lib/program/ops.js'

const { Device, localGroups, openGroup } = loadBinding()

const bytes = (text: string) => new TextEncoder().encode(text)
const text = (message: Uint8Array) => new TextDecoder().decode(message)
const mailOf = ({ rank, size }: NativeGroup, words = '') =>
  Array.from({ length: size }, (_, to) => bytes(`${rank}>${to}${words}`))

/** The code and the message of a rejection. */
async function failure(call: Promise<unknown>): Promise<string> {
  try {
    await call
  } catch (error) {
    const { code, message } = fromNative(error) as MoeppError
    return `${code} ${message}`
  }
  return 'none'
}

t.test('mail goes from each rank to each', async t => {
  const groups = localGroups(3, 10_000)
  t.strictSame(
    groups.map(({ rank, size }) => [rank, size]),
    [0, 1, 2].map(rank => [rank, 3]),
  )
  for (const words of ['', ' again', ' x'.repeat(1e5)]) {
    const received = await Promise.all(groups.map(group => group.exchange(mailOf(group, words))))
    for (const [to, messages] of received.entries())
      t.strictSame(
        messages.map(text),
        [0, 1, 2].map(from => `${from}>${to}${words}`),
      )
  }
  const [first] = groups
  t.match(first!.info(), { exchanges: 3, messagesSent: 6, rowsSent: 0, picks: 0, waitMs: 0 })
  await Promise.all(groups.map(group => group.close()))
  t.match(await failure(first!.exchange(mailOf(first!))), /^ERR_CLOSED/)
})

t.test('what a group refuses', async t => {
  t.throws(() => localGroups(0, 0), /size must be 1 to 256/)
  t.throws(() => localGroups(2, -1), /deadlineMs must be 0 to/)
  const options = { library: '/no/such/library.so', deadlineMs: 1000 }
  t.throws(() => openGroup({ kind: 'mpi', ...options }), {
    code: 'ERR_UNSUPPORTED',
    message: /no\/such\/library\.so could not be loaded/,
  })
  t.throws(() => openGroup({ kind: 'nccl' as 'mpi', ...options }), /kind must be 'mpi'/)
  const [group] = localGroups(2, 0)
  t.throws(() => group!.exchange([bytes('')]), /one for each of the 2 ranks/)
  t.throws(() => group!.exchange(['', ''] as never), /a message must be a Uint8Array/)
  const device = new Device('cpu', { threads: 1 })
  const program = new ProgramBuilder().finish([])
  t.throws(() => device.compile(program, undefined, {} as never), /group must be a Group/)
})

t.test('a rank that is late, or fails, ends the others', async t => {
  const late = localGroups(3, 100)
  const failures = await Promise.all([0, 1].map(i => failure(late[i]!.exchange(mailOf(late[i]!)))))
  for (const words of failures)
    t.match(words, /^ERR_PARALLEL rank \d of 3: mail 0: .*no message from rank 2 within 100 ms/)
  t.match(await failure(late[2]!.close()), /^ERR_PARALLEL rank 2 of 3: close 0: rank \d failed/)

  const waiting = localGroups(2, 0)
  const waits = failure(waiting[0]!.exchange(mailOf(waiting[0]!), true))
  waiting[1]!.abort('its disk is full')
  t.match(await waits, /^ERR_PARALLEL .* rank 1 failed: its disk is full/)
})

/**
 * A layer's routing of inputs, and the way of its rows to their experts and back; `shows` the rows
 * that come.
 */
function routing(group: NativeGroup, shows = true): ProgramSpec {
  const p = new ProgramBuilder()
  const x = p.input('x', 'f32', ['T', 8])
  const logits = p.input('logits', 'f32', ['T', 6])
  const experts = [
    { kind: 'zero', count: 2 },
    { kind: 'ffn', count: 4 },
  ] as const
  const route = routeTopK(p, 'layer', { logits, topK: 2, experts, normalise: true })
  // Two ranks of two experts each.
  const held = [2 * group.rank, 2 * group.rank + 1]
  const on = { ranks: group.size, destinations: [0, 0, 1, 1], held }
  const dispatched = dispatchTokens(p, 'layer', { x, route, experts, on })
  // The experts' results are a step's input here, in the order of the picks that came.
  const expertOut = p.input('results', 'f32', ['P', 2, 8])
  const collected = collectTokens(p, 'layer', { expertOut, dispatched, route })
  return p.finish([collected, route.expertRows, ...(shows ? [dispatched.rows] : [])])
}

/** Token 0 picks FFN experts 0 and 3, token 1 a zero expert and FFN expert 2. */
function routedStep(T: 0 | 2, rank: number) {
  const logits = Float32Array.of(...[0, 0, 9, 0, 0, 8], ...[0, 9, 0, 0, 8, 0])
  return {
    sizes: { T, R: 0, B: T > 0 ? 1 : 0, M: 0, P: 2 },
    inputs: {
      x: Float32Array.from({ length: T * 8 }, (_, i) => i),
      logits: logits.subarray(0, T * 6),
      results: Float32Array.from({ length: 2 * 2 * 8 }, (_, i) => 100 * (rank + 1) + i),
    },
  }
}

t.test('rows travel in a step, also to ranks without tokens', async t => {
  const groups = localGroups(2, 10_000)
  const device = new Device('cpu', { threads: 1 })
  const programs = await Promise.all(
    groups.map(group => device.compile(routing(group), undefined, group)),
  )
  const step = (rank: number) => routedStep(rank === 0 ? 2 : 0, rank)
  const [first, second] = await Promise.all(
    programs.map((program, rank) => program.run(step(rank))),
  )
  t.strictSame([...first!['layer.expert_rows']!], [0, 2, -1, 1])
  // Rank 1 got both rows, one pick of each: token 0's expert 3 comes behind token 1's expert 2.
  t.strictSame([...second!['layer.dispatch.rows']!], [...step(0).inputs.x])
  const rowsOf = (result: Float32Array | Int32Array) =>
    Array.from({ length: 3 }, (_, row) => result[8 * row])
  t.strictSame(rowsOf(first!['layer.collect.out']!), [100, 200, 208])
  t.match(groups[0]!.info(), { rowsSent: 2, picks: 3, localPicks: 1, messagesSent: 2 })
  t.match(groups[1]!.info(), { rowsSent: 2, picks: 0, localPicks: 0, messagesSent: 2 })

  t.match(
    await failure(device.compile(routing(groups[0]!))),
    /^ERR_BAD_PROGRAM layer.dispatch: dispatch_tokens needs a group of ranks/,
  )
  const failures = await Promise.all([
    failure(programs[0]!.run({ ...step(0), inputs: {} })),
    failure(programs[1]!.run(step(1))),
  ])
  t.match(failures[0], /^ERR_BAD_PROGRAM input/)
  t.match(
    failures[1],
    /^ERR_PARALLEL layer.dispatch: rank 1 of 2: dispatch 2: rank 0 failed: input/,
  )
  t.match(await failure(groups[1]!.close()), /^ERR_PARALLEL/)
})

/** Attention, and what picks tokens, of a step's inputs. */
function attending() {
  const p = new ProgramBuilder()
  const step = {
    positions: p.input('positions', 'i32', ['T']),
    sequenceStarts: p.input('sequence_starts', 'i32', ['B+1']),
    pageTable: p.input('page_table', 'i32', ['B', 'M']),
  }
  const frequencies = p.input('frequencies', 'f32', ['B', 4])
  const rotary = ropeTable(p, 'rope', { ...step, frequencies, positionDivisor: 1 })
  const qkv = p.input('qkv', 'f32', ['T', 24])
  const q = ropeStore(p, 'store', { qkv, rotary, step, layer: 0, heads: 1, headDim: 8 })
  const out = attention(p, 'attention', { q, step, layer: 0, scale: 1 })
  const rows = p.input('rows', 'i32', ['R'])
  const logits = gatherRows(p, 'gather', { x: out, rows })
  const top = topLogits(p, 'top', { logits, count: 2 })
  return p.finish([out, top.values, top.indices])
}

t.test('a step behind an exchange of mail', async t => {
  const groups = localGroups(2, 10_000)
  const device = new Device('cpu', { threads: 1 })
  const programs = await Promise.all(
    groups.map(group => device.compile(routing(group, false), undefined, group)),
  )
  const heard: string[] = []
  /** Rank 0 has so many tokens; rank 1 adds words. */
  const run = (tokens: 0 | 2, words = '') =>
    Promise.all(
      programs.map((program, rank) => {
        const own = rank === 0 ? tokens : 0
        const { sizes, inputs } = routedStep(own, rank)
        const { P, ...known } = sizes
        const mail = Buffer.concat([Buffer.from([own, 0, 0, 0]), bytes(rank === 1 ? words : '')])
        return program.exchangeAndRun({ sizes: known, inputs }, [mail, mail], received =>
          heard.push(received.map(each => text(each.subarray(4))).join()),
        )
      }),
    )
  const [first] = await run(2)
  t.strictSame([...first!['layer.expert_rows']!], [0, 2, -1, 1])
  t.equal(groups[1]!.info().rowsSent, 2)
  t.strictSame(heard, [])
  await run(2, 'hello')
  t.strictSame(heard, [',hello', ',hello'])
  t.strictSame(await run(0), [undefined, undefined])
  await run(0, 'bye')
  t.equal(heard.at(-1), ',bye')

  const [program] = programs as [NativeProgram, NativeProgram]
  const step = routedStep(0, 0)
  const short = [bytes('123'), bytes('123')]
  t.throws(() => program.exchangeAndRun(step, [bytes('1234')], () => {}), /of the 2 ranks/)
  t.throws(() => program.exchangeAndRun(step, short, 1 as never), /must be a function/)
  const alone = await device.compile(new ProgramBuilder().finish([]))
  t.throws(() => alone.exchangeAndRun(step, [], () => {}), /compiled without a group/)
  const failures = programs.map(each => failure(each.exchangeAndRun(step, short, () => {})))
  for (const words of await Promise.all(failures))
    t.match(words, /^ERR_PARALLEL .*the mail of rank \d has 3 bytes, expected at least 4/)
})

t.test('a step of a group may have no tokens', async t => {
  const [group] = localGroups(1, 1000)
  const device = new Device('cpu', { threads: 2 })
  const shape = { layers: 1, pages: 1, pageSize: 16, kvHeads: 1, keyDim: 8, valueDim: 8 }
  const cache = device.kvCache({ ...shape, dtype: 'f32' })
  const step = {
    sizes: { T: 0, R: 0, B: 0, M: 0 },
    inputs: {
      positions: new Int32Array(),
      sequence_starts: Int32Array.of(0),
      page_table: new Int32Array(),
      frequencies: new Float32Array(),
      qkv: new Float32Array(),
      rows: new Int32Array(),
    },
    cache,
  }
  const program = await device.compile(attending(), undefined, group)
  const results = await program.run(step)
  for (const result of Object.values(results)) t.equal(result.length, 0)
  const alone = await device.compile(attending())
  t.match(await failure(alone.run(step)), /^ERR_BAD_PROGRAM a step needs at least one token/)
  const sizes = { T: 1, R: 0, B: 0, M: 0 }
  t.throws(() => program.run({ ...step, sizes }), /B at least 1 with tokens/)
  t.throws(() => program.run({ ...step, sizes: { ...sizes, B: 1, P: 0 } }), /P at least T/)
  cache.close()
})
