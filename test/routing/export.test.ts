/** Files of a routing report, read back by other parsers. */
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects } from 'hyparquet'
import t from 'tap'
import { csvLine } from '../../lib/routing/export/csv.js'
import { SampleKeeper } from '../../lib/routing/export/sample-keeper.js'
import { csvTables } from '../../lib/routing/export/tables.js'
import { withTokenFile } from '../../lib/routing/export/token-file.js'
import type { TokenRows } from '../../lib/routing/types.js'
import { csvParseRows } from '../support/csv.js'
import { HARD_TEXTS, report, tokenRows } from './report-data.js'

t.test('fields of CSV are what went in', async t => {
  const cells = [...HARD_TEXTS, 0.1, -0, 1e-7, Number.NEGATIVE_INFINITY, null, 'a\nb', '\r', '"']
  const line = csvLine(cells)
  t.ok(line.endsWith('\r\n'))
  t.same(csvParseRows(line)[0], [
    ...[...HARD_TEXTS, '0.1', '0', '1e-7', '-Infinity', '', 'a\nb', '\r', '"'],
  ])
})

t.test('tables have the numbers of a report, a row of each subject', async t => {
  const made = report()
  const read = Object.fromEntries(
    [...csvTables(made)].map(({ name, lines }) => {
      const [head, ...rows] = csvParseRows([...lines].join(''))
      for (const row of rows) t.equal(row.length, head!.length, name)
      return [name, rows.map(row => Object.fromEntries(row.map((cell, i) => [head![i]!, cell])))]
    }),
  )
  t.same(Object.keys(read).sort(), [
    ...['agreement', 'cost', 'experts', 'layers', 'places', 'vocabulary'],
  ])
  const of = { model: 'models/a', file: 'x, "y".txt' }
  t.match(read.layers![0], {
    ...of,
    ...{ layer: '1', tokens: '6', top_k: '2', ffn_experts: String(5 / 6) },
    ...{
      ffn_share: String(3 / 12 + 2 / 12),
      constant_share: String(1 / 3),
      zero_share: String(1 / 12),
    },
    ...{ tokens_with_0_ffn: '2', tokens_with_2_ffn: '1', router_entropy_bits: '1.5' },
    ...{ ffn_variation: '0.2', ffn_violation: String(3 / 2.5 - 1) },
    ...{ score_mean: '0.5', own_score_mean: '-0.5', own_score_most: '4.25' },
  })
  t.match(read.layers![1], {
    model: 'b',
    router_entropy_bits: '',
    balance_loss: '',
    score_mean: '',
  })
  t.equal(read.experts!.length, 10)
  t.match(read.experts![2], {
    ...of,
    ...{ layer: '1', expert: '2', kind: 'constant', picks: '4', load: String(2 / 3) },
    ...{ weight: '2', probability: '0.19999999999999998' },
  })
  t.same(
    read.vocabulary!.slice(0, 6).map(({ text }) => text),
    HARD_TEXTS,
  )
  t.match(read.vocabulary![3], { token: '3', count: '9', ffn_experts: '1.625', half_width: '' })
  t.match(read.places![1], { model: 'b', place: 'whole', count: '6', half_width: '0.5' })
  t.match(read.agreement![0], { next_layer: '2', same: '0.5', ffn_correlation: '-0.25' })
  t.match(read.agreement![1], { ffn_correlation: '' })
  t.equal(read.cost!.length, 2, 'a subject without cost has no row')
  t.match(read.cost![1], {
    ...{ variant: 'twin', ffn_experts: '2', operations: '4000000', bytes: '4000000' },
    ...{ predicted_prefill_seconds: '0.25', measured_decode_seconds: '0.5' },
    ceiling_bytes_per_second: '10000000000',
  })
  t.match(read.cost![0], { variant: 'model', measured_prefill_seconds: '' })
})

/** The rows as objects, by a plain loop. */
function expected(model: string, rows: TokenRows): object[] {
  const found: object[] = []
  for (const [i, token] of rows.tokens.entries()) {
    for (const { layer, topK, kinds, ...of } of rows.layers) {
      const row: Record<string, unknown> = { model, file: 'f', window: rows.window }
      Object.assign(row, { position: rows.position + i, token, text: rows.texts[i], layer })
      row.ffn_experts = 0
      for (let k = 0; k < 3; k++) {
        const at = i * topK + k
        const isThere = k < topK
        row[`expert_${k}`] = isThere ? of.experts[at] : null
        row[`weight_${k}`] = isThere ? of.weights[at] : null
        row[`logit_${k}`] = isThere ? of.logits[at] : null
        row[`replaced_${k}`] = isThere ? of.replaced[at] : null
        if (isThere && of.weights[at]! > 0 && of.experts[at]! < 2)
          row.ffn_experts = (row.ffn_experts as number) + 1
      }
      found.push(row)
    }
  }
  return found
}

const PICKS = { least: 1, most: 3 }
const WINDOWS = [tokenRows(500, 0, 3), tokenRows(1, 500, 1), tokenRows(100, 600, 3)]

const write = (path: string, windows: readonly TokenRows[]) =>
  withTokenFile(path, PICKS, async add => {
    for (const rows of windows) await add({ model: 'm', file: 'f' }, rows)
    return 'done'
  })

t.test('a Parquet file of tokens has each value', async t => {
  const path = join(t.testdir(), 'tokens.parquet')
  t.equal(await write(path, WINDOWS), 'done')
  const file = await asyncBufferFromFile(path)
  const { schema } = await parquetMetadataAsync(file)
  const types = Object.fromEntries(
    schema.map(({ name, type, ...more }) => [name, { type, ...more }]),
  )
  t.match(types.text, { type: 'BYTE_ARRAY', converted_type: 'UTF8', repetition_type: 'REQUIRED' })
  t.match(types.token, { type: 'INT32', repetition_type: 'REQUIRED' })
  t.match(types.weight_0, { type: 'FLOAT', repetition_type: 'REQUIRED' })
  t.match(types.weight_1, { type: 'FLOAT', repetition_type: 'OPTIONAL' })
  t.same(
    await parquetReadObjects({ file }),
    WINDOWS.flatMap(rows => expected('m', rows)),
  )
})

t.test('a CSV file of tokens has each value', async t => {
  const path = join(t.testdir(), 'tokens.csv')
  await write(path, WINDOWS)
  const [head, ...rows] = csvParseRows(readFileSync(path, 'utf8'))
  const all = WINDOWS.flatMap(each => expected('m', each))
  t.equal(rows.length, all.length)
  const isText = new Set(['model', 'file', 'text'])
  const values = rows.map(row =>
    Object.fromEntries(
      row.map((cell, i) => {
        const name = head![i]!
        if (isText.has(name)) return [name, cell]
        return [name, cell === '' ? null : Math.fround(Number(cell))]
      }),
    ),
  )
  t.same(values, all)
})

t.test('rows are on the disk before the last has come', async t => {
  for (const name of ['tokens.parquet', 'tokens.csv']) {
    const folder = t.testdir()
    const rows = tokenRows(name.endsWith('.csv') ? 2 ** 13 : 2 ** 15, 0, 1)
    await withTokenFile(join(folder, name), PICKS, async add => {
      for (let bytes = 0, i = 1; i <= 2; i++) {
        for (const _ of [1, 2]) await add({ model: 'm', file: 'f' }, rows)
        const [staged] = readdirSync(folder)
        const { size } = statSync(join(folder, staged!))
        t.ok(size > bytes, `${name}: ${size} bytes after ${i} groups`)
        bytes = size
      }
    })
    if (name.endsWith('.csv')) continue
    const file = await asyncBufferFromFile(join(folder, name))
    const last = await parquetReadObjects({ file, rowStart: 4 * 2 ** 16 - 2 })
    t.same(last, expected('m', rows).slice(-2), 'the second group is right')
  }
})

t.test('a file of no tokens is one, too', async t => {
  const folder = t.testdir()
  await write(join(folder, 'none.parquet'), [])
  await write(join(folder, 'none.csv'), [])
  const file = await asyncBufferFromFile(join(folder, 'none.parquet'))
  t.same(await parquetReadObjects({ file }), [])
  t.equal(csvParseRows(readFileSync(join(folder, 'none.csv'), 'utf8')).length, 1)
})

t.test('a run that fails leaves the older file, and nothing else', async t => {
  for (const name of ['tokens.parquet', 'tokens.csv']) {
    const folder = t.testdir()
    const path = join(folder, name)
    writeFileSync(path, 'older')
    await t.rejects(
      withTokenFile(path, PICKS, async add => {
        await add({ model: 'm', file: 'f' }, WINDOWS[0]!)
        throw new Error('in its middle')
      }),
      /in its middle/,
    )
    t.equal(readFileSync(path, 'utf8'), 'older')
    t.same(readdirSync(folder), [name])
  }
})

t.test('a file that cannot be made is a typed error', async t => {
  const path = join(t.testdir(), 'missing')
  await t.rejects(write('/dev/null/tokens.csv', WINDOWS), { code: 'ERR_CANNOT_WRITE' })
  await t.rejects(write(join(path, 'below.csv'), WINDOWS), { code: 'ERR_CANNOT_WRITE' })
})

t.test('a sample is the first tokens, and no more', async t => {
  const keeper = new SampleKeeper({ tokens: 502, picks: 1e9 })
  for (const rows of WINDOWS) keeper.add(rows)
  keeper.add(WINDOWS[0]!)
  const { rows } = keeper.sample
  t.same(
    rows.map(({ tokens, texts }) => [tokens.length, texts.length]),
    [
      [500, 500],
      [1, 1],
      [1, 1],
    ],
  )
  const [, , last] = rows
  t.same(last!.layers[1], {
    ...WINDOWS[2]!.layers[1],
    ffnExperts: WINDOWS[2]!.layers[1]!.ffnExperts.slice(0, 1),
    experts: WINDOWS[2]!.layers[1]!.experts.slice(0, 3),
    weights: WINDOWS[2]!.layers[1]!.weights.slice(0, 3),
    logits: WINDOWS[2]!.layers[1]!.logits.slice(0, 3),
    replaced: WINDOWS[2]!.layers[1]!.replaced.slice(0, 3),
  })
  const none = new SampleKeeper({ tokens: 0, picks: 1e9 })
  none.add(WINDOWS[0]!)
  t.same(none.sample, { rows: [] })
})

t.test('a sample has the picks of its first tokens, as many as are asked for', async t => {
  const keeper = new SampleKeeper({ tokens: 1e9, picks: 2504 })
  for (const rows of WINDOWS) keeper.add(rows)
  // One window of 500 tokens, and one of a token with 3 picks. Of 100 tokens there is no room.
  const { rows } = keeper.sample
  t.same(rows.slice(0, 2), WINDOWS.slice(0, 2))
  const layers = WINDOWS[2]!.layers.map(({ layer, topK, kinds, ffnExperts }) => ({
    ...{ layer, topK, kinds, ffnExperts, experts: new Int32Array() },
    ...{ weights: new Float32Array(), logits: new Float32Array(), replaced: new Float32Array() },
  }))
  t.same(rows[2], { ...WINDOWS[2], layers })
})
