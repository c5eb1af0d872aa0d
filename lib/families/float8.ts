/** `quantization_config` of config.json: the one form of it that moepp reads. */
import type { Fields } from '../base/fields.js'
import { show } from '../base/json.js'
import { FLOAT8_BLOCK } from '../tensor/tensor-ref.js'

/**
 * True if matrices are e4m3 with a scale for each block of 128 x 128, as Qwen's and DeepSeek's
 * "FP8" checkpoints have them. Lists of layers that are not converted are not read: the type of
 * each stored tensor decides. Activations may be quantised while they are computed with, which
 * moepp leaves out where it multiplies by wider weights.
 *
 * @throws MoeppError ERR_BAD_CONFIG for any other quantisation
 */
export function readsFloat8(fields: Fields): boolean {
  const quantization = fields.inner('quantization_config')
  if (quantization === undefined) {
    fields.only('quantization_config', [null])
    return false
  }
  const method = quantization.take('quant_method')
  if (method !== 'fp8') {
    throw quantization.bad(
      `quant_method is ${show(method)}, expected "fp8": other quantisations are not read`,
    )
  }
  quantization.only('fmt', ['e4m3', null])
  quantization.only('activation_scheme', ['dynamic', null])
  const block = quantization.take('weight_block_size')
  if (!Array.isArray(block) || block.length !== 2 || block.some(size => size !== FLOAT8_BLOCK)) {
    throw quantization.bad(
      `weight_block_size is ${show(block)}, expected [${FLOAT8_BLOCK}, ${FLOAT8_BLOCK}]`,
    )
  }
  for (const list of ['modules_to_not_convert', 'ignored_layers']) names(quantization, list)
  quantization.refuseUnread([])
  return true
}

function names(fields: Fields, key: string): void {
  const value = fields.take(key) ?? []
  if (Array.isArray(value) && value.every(name => typeof name === 'string')) return
  throw fields.bad(`${key} is ${show(value)}, expected a list of names`)
}
