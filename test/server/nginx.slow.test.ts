/** Two replicas behind nginx: prefixes keep their replica, and a dead replica loses no request. */
import OpenAI from 'openai'
import t from 'tap'
import { type Balanced, lacksNginx, startBalanced } from './balanced.js'
import { prefixHeader } from './prefix-header.js'

const CLIENTS = 8
const REQUESTS = 15

if (lacksNginx) process.stderr.write(`nginx.slow.test.ts is skipped: ${lacksNginx}\n`)

t.test('two replicas behind nginx', { skip: lacksNginx }, async t => {
  const balanced = await startBalanced()
  t.teardown(() => balanced.close())
  const addresses = balanced.replicas.map(({ address }) => address).sort()
  // nginx tries again: the client need not.
  const client = new OpenAI({ baseURL: `${balanced.url}/v1`, apiKey: 'none', maxRetries: 0 })

  await t.test('the turns of a chat go to one replica, and chats to both', async t => {
    const used = new Set<string>()
    for (let chat = 0; chat < 12; chat++) {
      const messages = [{ role: 'user', content: `chat ${chat}` }]
      const tried: string[] = []
      for (let turn = 0; turn < 3; turn++) {
        tried.push((await triedFor(balanced, prefixHeader({ messages })))!)
        messages.push({ role: 'assistant', content: 'Yes.' }, { role: 'user', content: 'Why?' })
      }
      t.equal(new Set(tried).size, 1, `${tried}`)
      used.add(tried[0]!)
    }
    t.same([...used].sort(), addresses)
  })

  await t.test('requests without the header are spread', async t => {
    const tried = await Promise.all(Array.from({ length: 24 }, () => triedFor(balanced, {})))
    t.same([...new Set(tried)].sort(), addresses)
  })

  await t.test('metrics stay inside, ids of requests pass', async t => {
    t.equal((await fetch(`${balanced.url}/metrics`)).status, 404)
    const headers = { 'x-request-id': 'mine' }
    const ready = await fetch(`${balanced.url}/ready`, { headers })
    t.equal(ready.status, 200)
    t.equal(ready.headers.get('x-request-id'), 'mine')
  })

  await t.test('a replica is killed under load', async t => {
    const [victim, survivor] = balanced.replicas
    let ended = 0
    const outcomes: Outcome[] = []
    const work = async (name: number) => {
      for (let i = 0; i < REQUESTS; i++) {
        const send = i % 2 === 0 ? whole : streamed
        outcomes.push(await send(client, `client ${name}, request ${i}`))
        if (++ended === (CLIENTS * REQUESTS) / 3) victim.process.kill('SIGKILL')
      }
    }
    await Promise.all(Array.from({ length: CLIENTS }, (_, name) => work(name)))
    t.equal(victim.process.signalCode, 'SIGKILL')
    t.equal(outcomes.length, CLIENTS * REQUESTS)
    const lost = outcomes.filter(({ error, hadBegun }) => error !== undefined && !hadBegun)
    t.same(lost, [], 'no request is lost whose answer had not begun')
    const cut = outcomes.filter(({ error }) => error !== undefined)
    t.ok(cut.length <= CLIENTS, `${cut.length} streams were cut`)
    const tried = outcomes.map(outcome => outcome.tried)
    t.ok(tried.includes(victim.address), 'it served before')
    t.ok(tried.includes(`${victim.address}, ${survivor.address}`), 'its requests went on')
  })
})

/** The replicas that nginx has tried for a small request. */
async function triedFor(
  { url }: Balanced,
  headers: Record<string, string>,
): Promise<string | undefined> {
  const answer = await fetch(`${url}/tokenize`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ prompt: 'The old man' }),
  })
  return answer.headers.get('x-tried') ?? undefined
}

interface Outcome {
  readonly tried: string | undefined
  readonly error?: unknown
  /** The client has got the beginning of a stream, which must not come again. */
  readonly hadBegun: boolean
}

const bodyOf = (prompt: string) => ({ model: 'books-7m', prompt, max_tokens: 48, seed: 1 })

async function whole(client: OpenAI, prompt: string): Promise<Outcome> {
  const headers = prefixHeader({ prompt })
  try {
    const { data, response } = await client.completions
      .create(bodyOf(prompt), { headers })
      .withResponse()
    const error = data.choices[0]?.finish_reason ? undefined : new Error('no end')
    return { tried: response.headers.get('x-tried') ?? undefined, error, hadBegun: false }
  } catch (error) {
    return { tried: undefined, error, hadBegun: false }
  }
}

async function streamed(client: OpenAI, prompt: string): Promise<Outcome> {
  let tried: string | undefined
  let hadBegun = false
  try {
    const { data, response } = await client.completions
      .create({ ...bodyOf(prompt), stream: true }, { headers: prefixHeader({ prompt }) })
      .withResponse()
    hadBegun = true
    tried = response.headers.get('x-tried') ?? undefined
    let hasEnded = false
    for await (const { choices } of data) hasEnded ||= Boolean(choices[0]?.finish_reason)
    // A stream that is cut must not look whole.
    if (!hasEnded) return { tried, error: new Error('no end'), hadBegun: false }
    return { tried, hadBegun }
  } catch (error) {
    return { tried, error, hadBegun }
  }
}
