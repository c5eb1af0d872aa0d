/** The families that moepp runs, and the one that a config.json is of. */
import { join } from 'node:path'
import { Fields, readConfigJson } from '../base/fields.js'
import { show } from '../base/json.js'
import { MoeppError } from '../errors.js'
import type { Family, ModelDescription } from './family.js'
import { readsFloat8 } from './float8.js'
import { glm4MoeLite } from './glm4-moe-lite.js'
import { glm4MoeLitePlusPlus } from './glm4-moe-lite-plus-plus.js'
import { longcatFlash } from './longcat-flash.js'
import { longcatFlashNgram } from './longcat-flash-ngram.js'
import { mixtral } from './mixtral.js'
import { moepp } from './moepp.js'
import { qwen3Moe } from './qwen3-moe.js'
import { qwen3MoePlusPlus } from './qwen3-moe-plus-plus.js'

export const FAMILIES: readonly Family[] = [
  moepp,
  qwen3Moe,
  qwen3MoePlusPlus,
  mixtral,
  glm4MoeLite,
  glm4MoeLitePlusPlus,
  longcatFlash,
  longcatFlashNgram,
]

/** Reads and checks a model directory's config.json. */
export async function readModel(directory: string, families = FAMILIES): Promise<ModelDescription> {
  const path = join(directory, 'config.json')
  return describeModel(await readConfigJson(path), path, families)
}

/**
 * Checks a parsed config.json; `where` names it in errors. A key or value may change the
 * computation in a way that moepp does not follow exactly. It is then refused by name: a wrong
 * number is worse than an error.
 *
 * @throws MoeppError ERR_BAD_CONFIG, ERR_UNSUPPORTED for a family that moepp does not run
 */
export function describeModel(json: unknown, where: string, families = FAMILIES): ModelDescription {
  const fields = new Fields(json, where)
  const architectures = fields.take('architectures') ?? []
  const type = fields.take('model_type')
  // A conversion may change the architectures and leave the type: the former decide.
  const isNamed = Array.isArray(architectures) && architectures.length > 0
  const family = families.find(f =>
    isNamed
      ? architectures.some(name => f.architectures.includes(name))
      : f.modelTypes.includes(type as string),
  )
  const isFloat8 = readsFloat8(fields)
  if (family) return { ...family.describe(fields), isFloat8 }
  const known = families.flatMap(f => f.architectures).join(', ')
  throw new MoeppError(
    'ERR_UNSUPPORTED',
    `${where}: a model of architectures ${show(architectures)} and model_type ${show(type)} is not supported; ` +
      `moepp runs ${known}`,
  )
}
