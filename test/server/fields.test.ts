/** The table of fields: each has its place in the document, and each of OpenAI's is known. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { CHAT_FIELDS } from '../../lib/server/openai/chat-request.js'
import { COMPLETION_FIELDS } from '../../lib/server/openai/completion-request.js'
import { root } from '../support/golden.js'

const document = readFileSync(join(root, 'docs', 'serving.md'), 'utf8')

/** The fields that a row of the tables names for `where`. */
function documented(where: string): string[] {
  const rows = document
    .split('\n')
    .filter(line => new RegExp(`\\| (both|${where}) \\|$`).test(line))
  return rows.flatMap(row =>
    [...row.split(' | ')[0]!.matchAll(/`(\w+)`/g)].map(([, name]) => name!),
  )
}

/** OpenAI's, version 2.3.0 of github.com/openai/openai-openapi. */
const OPENAI = {
  completions:
    'best_of echo frequency_penalty logit_bias logprobs max_tokens model n presence_penalty ' +
    'prompt seed stop stream stream_options suffix temperature top_p user',
  chat:
    'audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens ' +
    'max_tokens messages metadata modalities model moderation n parallel_tool_calls prediction ' +
    'presence_penalty prompt_cache_key prompt_cache_options prompt_cache_retention ' +
    'reasoning_effort response_format safety_identifier seed service_tier stop store stream ' +
    'stream_options temperature tool_choice tools top_logprobs top_p user verbosity ' +
    'web_search_options',
}

const TABLES = { completions: COMPLETION_FIELDS, chat: CHAT_FIELDS }

for (const where of ['completions', 'chat'] as const)
  t.test(where, async t => {
    const known = Object.keys(TABLES[where]).sort()
    t.strictSame(documented(where).sort(), known)
    t.strictSame(
      OPENAI[where].split(' ').filter(name => !known.includes(name)),
      [],
    )
  })
