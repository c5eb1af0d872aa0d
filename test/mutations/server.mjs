/** Mutations of the server's answers: scripts/mutations.mjs. */
const completions = ['test/server/completions.test.ts']
const chats = ['test/server/chat.test.ts']
const streams = ['test/server/streams.test.ts']
const harness = ['test/server/harness.test.ts']
const openai = 'lib/server/openai'

export default [
  {
    name: 'server-best-of-is-the-worst',
    breaks: 'The texts of best_of are the least likely ones.',
    in: `${openai}/completion-choices.ts`,
    find: 'meanLogprob(b) - meanLogprob(a)',
    replace: 'meanLogprob(a) - meanLogprob(b)',
    tests: completions,
  },
  {
    name: 'server-completions-share-a-seed',
    breaks: 'All texts of a prompt have the same seed.',
    in: 'lib/server/routes/completions.ts',
    find: 'seed + i',
    replace: 'seed + 0 * i',
    tests: completions,
  },
  {
    name: 'server-chats-share-a-seed',
    breaks: 'All choices of a chat have the same seed.',
    in: 'lib/server/routes/chat.ts',
    find: 'seed + i',
    replace: 'seed + 0 * i',
    tests: chats,
  },
  {
    name: 'server-top-lacks-the-token',
    breaks: 'A token that is not among the likeliest is missing in top_logprobs.',
    in: `${openai}/completion-logprobs.ts`,
    find: '[...top!, { tokenId, logprob }]',
    replace: '[...top!]',
    tests: completions,
  },
  {
    name: 'server-texts-collide',
    breaks: 'Of two tokens with one text the unlikelier one stays in top_logprobs.',
    in: `${openai}/completion-logprobs.ts`,
    find: 'Math.max(finite(each.logprob), byText.get(text) ?? -Infinity)',
    replace: 'finite(each.logprob)',
    tests: harness,
  },
  {
    name: 'server-tokenize-knows-no-names',
    breaks: 'The name of a special token alone is ordinary text.',
    in: 'lib/server/routes/tokenize.ts',
    find: 'content === prompt',
    replace: 'content === undefined',
    tests: harness,
  },
  {
    name: 'server-offsets-drift',
    breaks: 'Each token of a prompt adds one to the offsets.',
    in: `${openai}/completion-logprobs.ts`,
    find: 'end += codePoints(',
    replace: 'end += 1 + codePoints(',
    tests: completions,
  },
  {
    name: 'server-takes-a-full-prompt',
    breaks: 'A prompt that leaves no room for a token is answered without one.',
    in: `${openai}/prompts.ts`,
    find: 'ids.length + room > contextLength',
    replace: 'ids.length > contextLength',
    tests: completions,
  },
  {
    name: 'server-waits-for-a-slow-reader',
    breaks: 'Bytes that wait for a reader have no limit.',
    in: 'lib/server/event-stream.ts',
    find: 'this.readableLength > this.#maxUnreadBytes',
    replace: 'this.readableLength > this.#maxUnreadBytes * 1e9',
    tests: streams,
  },
  {
    name: 'server-abort-waits-for-its-turn',
    breaks: 'A request that is aborted in the queue stays there until its turn.',
    in: 'lib/server/texts.ts',
    find: 'await Promise.race([turn, aborted])',
    replace: 'await turn',
    tests: streams,
  },
  {
    name: 'server-chat-keeps-its-places',
    breaks: 'A chat that ended early keeps its places among those that run or wait.',
    in: 'lib/server/routes/chat.ts',
    find: 'admitted?.leave(i)',
    replace: 'void admitted',
    tests: streams,
  },
  {
    name: 'server-calls-are-no-reason',
    breaks: 'An answer with calls of tools has the reason stop.',
    in: `${openai}/chat-choices.ts`,
    find: "message.toolCalls ? 'tool_calls' : 'stop'",
    replace: "message.toolCalls ? 'stop' : 'stop'",
    tests: chats,
  },
]
