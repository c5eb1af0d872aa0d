// The routing of a text, recorded from a model and from its vanilla twin.
import { readFileSync } from 'node:fs'
import { FAMILIES } from '../../dist/families/registry.js'
import { Model } from '../../dist/generation/model.js'
import { loadParts } from '../../dist/load/load.js'
import { resolveLoadOptions } from '../../dist/options/load.js'
import { kindsOf } from '../../dist/program/moe-ops.js'
import { vanillaTwin } from '../../dist/routing/measured-cost.js'
import { NONE, Picks } from './picks.mjs'

/** Windows that are computed together. */
const BATCH = 16

/**
 * `windows` of the text, of `length` token ids, the ones that begin a text included; and their
 * picks by the model and by its twin.
 */
export async function record(source, file, { length, most, dtype }) {
  const options = resolveLoadOptions({
    ...{ device: 'cpu', dtype, contextLength: length },
    kvCacheTokens: BATCH * Math.ceil(length / 64) * 64,
  })
  let windows
  const recorded = {}
  for (const [name, change] of Object.entries({ model: undefined, twin: vanillaTwin })) {
    const parts = await loadParts(source, options, FAMILIES, change)
    const model = new Model(parts)
    windows ??= windowsOf(model.tokenizer, readFileSync(file, 'utf8'), length, most)
    recorded[name] = await picksOf(model, parts.runner.routers, windows)
    await model.close()
  }
  return { windows, ...recorded }
}

function windowsOf(tokenizer, text, length, most) {
  const { beginIds } = tokenizer
  const ids = tokenizer.encode(text, { addSpecialTokens: false })
  const room = length - beginIds.length
  const count = Math.min(most, Math.floor(ids.length / room))
  if (count === 0)
    throw new RangeError(`--text: has ${ids.length} tokens, expected ${room} at least`)
  return Array.from({ length: count }, (_, w) => [
    ...beginIds,
    ...ids.slice(w * room, (w + 1) * room),
  ])
}

async function picksOf(model, routers, windows) {
  const [{ topK, experts }] = routers
  const kinds = kindsOf(experts)
  const places = kinds.map((kind, e) =>
    kind === 'ffn' ? kinds.slice(0, e).filter(each => each === 'ffn').length : NONE,
  )
  const [layers, length] = [routers.length, windows[0].length]
  const picks = new Picks({
    ...{ windows: windows.length, length, layers, topK },
    experts: places.filter(place => place !== NONE).length,
  })
  const capture = routers.map(({ indices }) => indices)
  for (let first = 0; first < windows.length; first += BATCH) {
    const results = await model.forward(windows.slice(first, first + BATCH), {
      logits: false,
      capture,
    })
    for (const [i, { captured }] of results.entries()) {
      for (const [layer, name] of capture.entries()) {
        for (let position = 0; position < length; position++) {
          const at = picks.at(first + i, position, layer)
          for (let k = 0; k < topK; k++)
            picks.data[at + k] = places[captured[name][position * topK + k]]
        }
      }
    }
  }
  return picks
}
