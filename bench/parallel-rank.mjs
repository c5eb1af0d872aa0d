// A rank of parallel.mjs, or its process without a group. Rank 0 generates, twice: the first time
// warms up. Or it streams a text while a long prompt is computed. Each rank writes its counters.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { FAMILIES } from '../dist/families/registry.js'
import { Model } from '../dist/generation/model.js'
import { loadParts } from '../dist/load/load.js'
import { resolveLoadOptions } from '../dist/options/load.js'
import { openMpi } from '../dist/parallel/mpi.js'
import { expertCount } from '../dist/program/moe-ops.js'
import { vanillaTwin } from '../dist/routing/measured-cost.js'

const { folder, model: source, isGroup, isTwin, beside, ...run } = JSON.parse(process.argv[2])
const { threads, sequences, tokens, prompt: promptTokens, long, dtype } = run
const contextLength = Math.max(promptTokens + tokens, long + 1, 2048)
const options = resolveLoadOptions({
  ...{ device: 'cpu', threads, dtype, contextLength },
  kvCacheTokens: sequences * (promptTokens + tokens + 64) + 2 * contextLength,
  ...(isGroup && { parallel: 'mpi' }),
})
const group = isGroup ? openMpi(options.parallelDeadlineMs) : undefined
const change = isTwin ? vanillaTwin : undefined
const parts = await loadParts(source, options, FAMILIES, change, group)
const model = new Model(parts)
const vocabulary = model.config.vocabSize
/** Tokens that are as good as random, and the same in each run. */
const tokensOf = (seed, count) =>
  Array.from({ length: count }, (_, i) => 3 + (((i + 1) * 7919 + seed * 104729) % (vocabulary - 3)))

async function generate(seed) {
  const prompts = Array.from({ length: sequences }, (_, i) => tokensOf(seed + i, promptTokens))
  const how = { maxNewTokens: tokens, ignoreEos: true, seed: 1, temperature: 1, routing: 'counts' }
  const began = performance.now()
  const results = await model.generate(prompts, how)
  const decodeMs = Math.max(...results.map(({ timings }) => timings.decodeMs))
  const ffn = results.reduce((sum, { routing }) => sum + routing.ffnExpertsPerToken, 0)
  return { ms: performance.now() - began, decodeMs, ffnPicks: ffn / sequences }
}

const quantilesOf = numbers => {
  const sorted = numbers.sort((a, b) => a - b)
  const at = q => sorted[Math.floor(q * (sorted.length - 1))]
  return { median: at(0.5), p95: at(0.95), most: at(1), count: sorted.length }
}

/**
 * Times between the tokens of a stream: alone, then while a long prompt is computed, at another
 * rank if any.
 */
async function gaps() {
  const stream = model.stream(tokensOf(1000, 16), { maxNewTokens: 1000, ignoreEos: true })
  const times = []
  let began
  let promptMs
  let other
  for await (const _ of stream) {
    times.push(performance.now())
    if (times.length !== ALONE) continue
    began = performance.now()
    other = model.generate(tokensOf(2000, long), { maxNewTokens: 1 }).then(() => {
      promptMs = performance.now() - began
      return stream.return()
    })
  }
  await other
  const found = times.slice(1).map((time, i) => time - times[i])
  // The first ones warm up.
  const alone = quantilesOf(found.slice(ALONE / 2, ALONE - 1))
  return { alone, beside: quantilesOf(found.slice(ALONE - 1)), promptMs }
}
const ALONE = 120

const write = (name, value) => writeFileSync(join(folder, `${name}.json`), JSON.stringify(value))
if ((model.parallel?.rank ?? 0) === 0) {
  const { experts, topK } = parts.runner.routers[0]
  const measured = beside ? await gaps() : await generate(0).then(() => generate(100))
  write('result', {
    ...measured,
    layers: parts.runner.routers.length,
    experts: expertCount(experts),
    ffnExperts: expertCount(experts, 'ffn'),
    picks: topK,
    weightBytes: parts.runner.info().weightBytes,
  })
}
const ended = model.close()
if (group) {
  await model.parallel.ended
  write(`rank-${group.rank}`, group.info())
}
await ended
