import { truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { storedTensors } from '../../lib/families/record.js'
import { describeModel } from '../../lib/families/registry.js'
import { safetensorsBytes } from '../checkpoint/files.js'
import { goldenCase, readJson } from './golden.js'

/** A checkpoint of zeros with a large vocabulary: `bytes` of weights, in a sparse file. */
export function largeCheckpoint(directory: string): { bytes: number } {
  const config = {
    ...readJson<object>(join(goldenCase('real7b-fp32'), 'config.json')),
    vocab_size: 60_000,
  }
  const description = describeModel(
    { ...config, hidden_size: 512, num_attention_heads: 8, num_key_value_heads: 8 },
    'test',
  )
  const header: Record<
    string,
    { dtype: string; shape: readonly number[]; data_offsets: [number, number] }
  > = {}
  let end = 0
  for (const { name, shape } of storedTensors(description)) {
    const begin = end
    end += 4 * shape.reduce((a, b) => a * b, 1)
    header[name] = { dtype: 'F32', shape, data_offsets: [begin, end] }
  }
  const start = safetensorsBytes(header)
  const path = join(directory, 'model.safetensors')
  writeFileSync(path, start)
  truncateSync(path, start.length + end)
  writeFileSync(
    join(directory, 'config.json'),
    JSON.stringify({ ...config, hidden_size: 512, num_attention_heads: 8, num_key_value_heads: 8 }),
  )
  return { bytes: end }
}
