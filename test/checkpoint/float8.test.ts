/** float8 checkpoints: reading, logits, refusals, and what convert makes of them. */
import { readFileSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import t, { type Test } from 'tap'
import { openCheckpoint } from '../../lib/checkpoint/checkpoint.js'
import { convertCheckpoint } from '../../lib/convert/convert.js'
import { inspectCheckpoint } from '../../lib/convert/inspect.js'
import { recordModel } from '../../lib/families/record.js'
import { readModel } from '../../lib/families/registry.js'
import { DEVICE_TRAITS } from '../../lib/load/device-traits.js'
import { estimateMemory, loadModel } from '../../lib/load/load.js'
import { planLoad, planOn } from '../../lib/load/plan.js'
import { type LoadOptions, resolveLoadOptions } from '../../lib/options/load.js'
import { parametersOf } from '../../lib/program/model-spec.js'
import { readTensor } from '../../lib/tensor/read-tensor.js'
import type { TensorRef } from '../../lib/tensor/tensor-ref.js'
import { runHere } from '../cli/run-here.js'
import { randomLatent } from '../reference/random-latent.js'
import {
  bf16Entry,
  type Entry,
  FLOAT8_VALUES,
  f32Entry,
  float8Matrix,
  float8Twins,
  QUANTIZATION_CONFIG,
  writeCheckpoint,
} from '../support/float8.js'
import { goldenCase } from '../support/golden.js'
import { BOOKS, directoryWith } from './files.js'

const GOLDEN = goldenCase('gqa-headdim', 'qwen3_moe')

/** Heads begin within blocks of 128 rows, and latents end within one. */
const LATENT = directoryWith(
  t.testdir({}),
  'latent',
  randomLatent('glm4_moe_lite_plus_plus', 7, {
    ...{ vocab_size: 80, hidden_size: 150, num_attention_heads: 3, num_hidden_layers: 2 },
    ...{ qk_nope_head_dim: 70, v_head_dim: 83, kv_lora_rank: 140, mlp_layer_types: null },
  }).files,
)

/** Logits of a few tokens, as bits. */
async function logitsOf(source: string, dtype: LoadOptions['dtype'] = 'auto'): Promise<Buffer> {
  await using model = await loadModel(source, { device: 'cpu', isa: 'scalar', dtype, threads: 1 })
  const { logits } = await model.forward([1, 5, 9, 2, 40, 77, 3])
  return Buffer.from(logits.buffer, logits.byteOffset, logits.byteLength)
}

t.test('the values of every code, in ragged blocks, as the TypeScript reader has them', async t => {
  const [rows, inputs] = [130, 140]
  const codes = Buffer.from(Array.from({ length: rows * inputs }, (_, i) => (i * 3) % 256))
  const scales = new Float32Array([1, 0.5, 3, 0.1])
  const entries: Record<string, Entry> = {
    w: { dtype: 'F8_E4M3', shape: [rows, inputs], bytes: codes },
    s: bf16Entry([2, 2], scales),
  }
  const { tensors } = await openCheckpoint(writeCheckpoint(t.testdir(), GOLDEN, entries))
  const held = await readTensor(tensors.get('s')!)
  const ref: TensorRef = { ...tensors.get('w')!, scale: { name: 's', ...tensors.get('s')! } }
  const expected = Float32Array.from(codes, (code, i) => {
    const scale = held[(i < 128 * inputs ? 0 : 2) + (i % inputs < 128 ? 0 : 1)]!
    const value = FLOAT8_VALUES[code & 127] ?? Number.NaN
    return (code & 128 ? -value : value) * scale
  })
  const values = await readTensor(ref)
  t.ok(values.every((value, i) => Object.is(value, expected[i])))
})

for (const [name, source] of [
  ['gqa-headdim', GOLDEN],
  ['mixtral', goldenCase('sliding-headdim', 'mixtral')],
  ['books-7m', BOOKS],
  ['latent', LATENT],
] as const) {
  t.test(`${name}: the logits are those of its twins, bit for bit`, async t => {
    const scaleType = name === 'books-7m' ? 'F32' : 'BF16'
    const { float8, float32, bfloat16 } = await float8Twins(source, t.testdir(), scaleType)
    const twins = { float32, bfloat16, int8: float32, int4: float32 } as const
    for (const dtype of ['float32', 'bfloat16', 'int8', 'int4'] as const) {
      const [got, want] = [await logitsOf(float8, dtype), await logitsOf(twins[dtype], dtype)]
      t.ok(got.equals(want), dtype)
      t.notOk(got.equals(await logitsOf(source, dtype)), 'the codes are coarser than the original')
    }
  })
}

t.test("'auto' holds float8 as bfloat16 on the CPU", async t => {
  const { float8 } = await float8Twins(GOLDEN, t.testdir(), 'F32')
  const [auto, bfloat16] = await Promise.all(
    (['auto', 'bfloat16'] as const).map(dtype => estimateMemory(float8, { device: 'cpu', dtype })),
  )
  t.equal(auto!.dtype, 'bfloat16')
  const description = await readModel(float8)
  const spec = recordModel(description, await openCheckpoint(float8), 'exact')
  const experts = spec.weights.filter(({ kind }) => kind === 'ffnExperts')
  t.ok(experts.length > 0 && experts.every(({ dtype }) => dtype === 'bf16'))
  // The embedding and the head are float32 in this checkpoint.
  t.ok(auto!.weightBytes > bfloat16!.weightBytes)
})

t.test("'auto' holds float8 on a GPU, but not the rows of heads", async t => {
  const { float8 } = await float8Twins(LATENT, t.testdir(), 'F32')
  const [description, checkpoint] = [await readModel(float8), await openCheckpoint(float8)]
  const plan = planLoad(description, checkpoint, resolveLoadOptions({}))
  const held = (suffix: RegExp) =>
    planOn(plan, DEVICE_TRAITS.cuda).spec.weights.find(({ name }) => suffix.test(name))?.dtype
  t.equal(held(/layers\.1\.self_attn\.q_b_proj\.weight$/), 'float8')
  t.equal(held(/layers\.1\.self_attn\.kv_b_proj\.keys$/), 'bf16')
  t.equal(held(/layers\.1\.self_attn\.kv_b_proj\.values$/), 'bf16')
})

t.test('inspect shows types, scales and memory', async t => {
  const { float8, float32 } = await float8Twins(GOLDEN, t.testdir(), 'BF16')
  const inspection = await inspectCheckpoint(float8)
  t.same(inspection.otherTensors, [])
  t.equal(inspection.parameters.total, (await inspectCheckpoint(float32)).parameters.total)
  const name = 'model.layers.0.self_attn.q_proj.weight'
  const at = inspection.tensors.findIndex(tensor => tensor.name === name)
  t.match(inspection.tensors[at], { dtype: 'float8' })
  t.match(inspection.tensors[at + 1], { name: `${name}_scale_inv`, dtype: 'bf16', shape: [1, 1] })
  const { code, stdout } = await runHere(['inspect', float8, '--tensors'])
  t.equal(code, 0)
  t.match(stdout, /safetensors \(f32, float8, bf16\), 1 file/)
  t.match(stdout, /q_proj\.weight_scale_inv +bf16 +\[1, 1\]/)
})

t.test('a state file is of these scales', async t => {
  const folder = t.testdir()
  const { float8 } = await float8Twins(GOLDEN, folder, 'F32')
  await using model = await loadModel(float8, { device: 'cpu', threads: 1 })
  const state = join(folder, 'state')
  await model.saveState(state, [1, 2, 3, 4])
  const { tensors } = await openCheckpoint(float8)
  const scale = tensors.get('model.layers.1.self_attn.o_proj.weight_scale_inv')!
  const bytes = readFileSync(scale.file)
  bytes.writeFloatLE(bytes.readFloatLE(scale.byteOffset) * 2, scale.byteOffset)
  writeFileSync(scale.file, bytes)
  await using changed = await loadModel(float8, { device: 'cpu', threads: 1 })
  await t.rejects(changed.loadState(state), { code: 'ERR_BAD_STATE' })
})

const NAME = 'model.layers.1.mlp.experts.2.down_proj.weight'
const SCALE = `${NAME}_scale_inv`

/** The checkpoint with some of its entries changed. */
async function changed(
  folder: string,
  change: (entries: Record<string, Entry>, matrix: Entry) => void,
  config: object = { quantization_config: QUANTIZATION_CONFIG },
): Promise<string> {
  const { tensors } = await openCheckpoint(GOLDEN)
  const entries: Record<string, Entry> = {}
  for (const [name, ref] of tensors) entries[name] = f32Entry(ref.shape, await readTensor(ref))
  const { shape } = tensors.get(NAME)!
  const matrix = float8Matrix(shape, await readTensor(tensors.get(NAME)!), 'F32')
  entries[NAME] = matrix.codes
  entries[SCALE] = matrix.scales
  change(entries, entries[NAME])
  return writeCheckpoint(folder, GOLDEN, entries, config)
}

t.test('bad files are refused', async t => {
  const scales = (values: number[], shape = [1, 1], entry = f32Entry) =>
    entry(shape, new Float32Array(values))
  const cases: [RegExp, (entries: Record<string, Entry>, matrix: Entry) => void][] = [
    [/is float8, but .*_scale_inv is missing/, entries => delete entries[SCALE]],
    [
      /_scale_inv: weight is \[1, 2\] f32, expected \[1, 1\]/,
      entries => {
        entries[SCALE] = scales([1, 1], [1, 2])
      },
    ],
    [
      /down_proj.weight: scale 0 is inf, expected 0 to 2\^119/,
      entries => {
        entries[SCALE] = scales([Infinity])
      },
    ],
    [
      /down_proj.weight: scale 0 is nan/,
      entries => {
        entries[SCALE] = scales([Number.NaN], [1, 1], bf16Entry)
      },
    ],
    [
      /scale 0 is -1/,
      entries => {
        entries[SCALE] = scales([-1])
      },
    ],
    [
      /_scale_inv is float8, expected float32 or bfloat16/,
      entries => {
        entries[SCALE] = { dtype: 'F8_E4M3', shape: [1, 1], bytes: Buffer.from([56]) }
      },
    ],
    [
      /experts.*: row \d+ holds a NaN/,
      (_, matrix) => {
        matrix.bytes[5] = 0x7f
      },
    ],
    [
      /experts.*: row \d+ holds a NaN/,
      (_, matrix) => {
        matrix.bytes[matrix.bytes.length - 1] = 0xff
      },
    ],
    [
      /is f32, but .*_scale_inv is stored, which only float8 has/,
      (entries, { shape }) => {
        entries[NAME] = f32Entry(shape, new Float32Array(shape[0]! * shape[1]!))
      },
    ],
    [
      /norm.weight: is \[\d+\] float8, expected a matrix/,
      entries => {
        const { shape } = entries['model.norm.weight']!
        entries['model.norm.weight'] = { dtype: 'F8_E4M3', shape, bytes: Buffer.alloc(shape[0]!) }
      },
    ],
  ]
  for (const [message, change] of cases) {
    const source = await changed(t.testdir(), change)
    for (const dtype of ['auto', 'float32', 'int8'] as const)
      await t.rejects(loadModel(source, { device: 'cpu', dtype }), {
        code: 'ERR_BAD_WEIGHTS',
        message,
      })
  }
  const unsaid = await changed(t.testdir(), () => {}, {})
  await t.rejects(loadModel(unsaid), {
    code: 'ERR_BAD_WEIGHTS',
    message: /is float8, but config.json has no quantization_config/,
  })
})

t.test('other quantisations are refused by name', async t => {
  const cases: [RegExp, object][] = [
    [/quant_method is "awq", expected "fp8"/, { quant_method: 'awq' }],
    [/quant_method is nothing/, { bits: 4 }],
    [/fmt is "e5m2", expected "e4m3"/, { fmt: 'e5m2' }],
    [/activation_scheme is "static"/, { activation_scheme: 'static' }],
    [/weight_block_size is \[64, 128\], expected \[128, 128\]/, { weight_block_size: [64, 128] }],
    [/weight_block_size is null/, { weight_block_size: null }],
    [/modules_to_not_convert is \[1\], expected a list of names/, { modules_to_not_convert: [1] }],
    [/unknown key "scale_fmt"/, { scale_fmt: 'ue8m0' }],
  ]
  for (const [message, change] of cases) {
    const quantization = 'bits' in change ? change : { ...QUANTIZATION_CONFIG, ...change }
    const source = await changed(t.testdir(), () => {}, { quantization_config: quantization })
    await t.rejects(loadModel(source), { code: 'ERR_BAD_CONFIG', message })
  }
})

for (const source of [GOLDEN, LATENT]) {
  const name = basename(source)
  t.test(`convert of ${name} keeps float8 with auto, and else writes what loading holds`, t =>
    checkConversions(t, source),
  )
}

async function checkConversions(t: Test, source: string): Promise<void> {
  const folder = t.testdir()
  const { float8 } = await float8Twins(source, folder, 'BF16')
  const config = (directory: string) => readFileSync(join(directory, 'config.json'), 'utf8')
  for (const dtype of ['auto', 'float32', 'bfloat16', 'int8', 'int4', 'int4-all'] as const) {
    const target = join(folder, `as-${dtype}`)
    const { leftOut } = await convertCheckpoint(float8, target, { dtype })
    t.same(leftOut, [], dtype)
    const { tensors } = await openCheckpoint(target)
    const stored = [...tensors.values()].map(ref => ref.dtype)
    t.equal(stored.includes('float8'), dtype === 'auto', dtype)
    t.equal(config(target).includes('quantization_config'), dtype === 'auto', dtype)
    t.ok((await logitsOf(target)).equals(await logitsOf(float8, dtype)), `${dtype}: logits`)
  }
  t.equal(config(join(folder, 'as-auto')), config(float8))
  const spec = recordModel(
    await readModel(float8),
    await openCheckpoint(join(folder, 'as-auto')),
    'exact',
  )
  t.ok([...parametersOf(spec).values()].some(({ ref }) => ref.dtype === 'float8'))
}
