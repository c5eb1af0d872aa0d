// The header x-moepp-prefix: a hash of a prompt's beginning. A balancer that hashes it sends the
// turns of a chat to one replica, whose KV cache has what they begin with: nginx.conf, envoy.yaml.
//
//   MOEPP_URL=http://localhost:8000/v1 node examples/prefix-header.ts
import { createHash } from 'node:crypto'

interface Message {
  readonly role: string
  readonly content?: unknown
}

/** The beginning of a body of /v1/completions or /v1/chat/completions. */
interface Body {
  readonly prompt?: unknown
  readonly messages?: readonly Message[]
}

/**
 * Of a chat the first message of the system and the first of the user count: later turns keep both.
 * Of each the first `characters` count. Prompts that differ only later share a replica.
 */
export function prefixHeader(body: Body, characters = 1024): Record<string, string> {
  const hash = createHash('sha256')
  for (const beginning of beginnings(body)) hash.update(`${beginning.slice(0, characters)}\0`)
  return { 'x-moepp-prefix': hash.digest('hex').slice(0, 16) }
}

function beginnings({ prompt, messages }: Body): string[] {
  if (!messages) return [textOf(prompt)]
  const first = (...roles: string[]) => messages.find(({ role }) => roles.includes(role))?.content
  return [textOf(first('system', 'developer')), textOf(first('user'))]
}

/** A text as it is; token ids and parts of a message as JSON. */
function textOf(content: unknown): string {
  return typeof content === 'string' ? content : JSON.stringify(content ?? '')
}

const url = process.env.MOEPP_URL
if (url) {
  const body = { prompt: 'The old man', max_tokens: 16 }
  const answer = await fetch(`${url}/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...prefixHeader(body) },
    body: JSON.stringify(body),
  })
  console.log(await answer.json())
}
