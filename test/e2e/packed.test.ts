/**
 * Packed checkpoints whose files are not what they were when they were looked at.
 */
import { closeSync, openSync, truncateSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { type Binding, loadBinding } from '../../lib/addon/binding.js'
import { openCheckpoint } from '../../lib/checkpoint/checkpoint.js'
import { convertCheckpoint } from '../../lib/convert/convert.js'
import { loadModel } from '../../lib/load/load.js'
import { goldenCase } from '../support/golden.js'

const SOURCE = goldenCase('tied-bin')

/** Runs `act` with another Device in the addon's place. */
async function withDevice<T>(Device: Binding['Device'], act: () => Promise<T>): Promise<T> {
  const binding = loadBinding() as { Device: Binding['Device'] }
  const real = binding.Device
  binding.Device = Device
  try {
    return await act()
  } finally {
    binding.Device = real
  }
}

t.test('a file that is cut off after its header was read', async t => {
  const { Device } = loadBinding()
  for (const dtype of ['int8', 'int4'] as const) {
    const directory = join(t.testdir(), dtype)
    await convertCheckpoint(SOURCE, directory, { dtype })
    const load = () => loadModel(directory, { device: 'cpu' })
    await (await load()).close()
    // Loaded first.
    const name = 'model.embed_tokens.weight'
    const { file, byteOffset, byteLength } = (await openCheckpoint(directory)).packed.get(name)!
    // The device is opened after the headers were read, and before the weights are.
    class Cutting extends Device {
      constructor(...args: ConstructorParameters<typeof Device>) {
        truncateSync(file, byteOffset + byteLength - 1)
        super(...args)
      }
    }
    await t.rejects(
      withDevice(Cutting, load),
      {
        name: 'MoeppError',
        code: 'ERR_BAD_FILE',
        message: new RegExp(`^${name}: bytes .* past the end`),
      },
      dtype,
    )
    await t.rejects(
      load(),
      { name: 'MoeppError', code: 'ERR_BAD_FILE' },
      'and is found at once later',
    )
  }
})

t.test('scales that are no numbers are found where their logits are used', async t => {
  const directory = join(t.testdir(), 'int8')
  await convertCheckpoint(SOURCE, directory, { dtype: 'int8' })
  const { file, byteOffset, byteLength } = (await openCheckpoint(directory)).packed.values().next()
    .value!
  const descriptor = openSync(file, 'r+')
  writeSync(descriptor, Buffer.alloc(byteLength, 0xff), 0, byteLength, byteOffset)
  closeSync(descriptor)
  await using model = await loadModel(directory, { device: 'cpu' })
  const refused = {
    name: 'MoeppError',
    code: 'ERR_DEVICE',
    message:
      /^logits: the logit of token \d+ is NaN, .*: the weights are damaged or too large, or the device failed$/,
  }
  await t.rejects(model.generate([1, 2, 3], { maxNewTokens: 2 }), refused)
  await t.rejects(model.score([1, 2], [3]), refused)
  const { logits } = await model.forward([1, 2, 3])
  t.ok(logits.some(Number.isNaN))
})
