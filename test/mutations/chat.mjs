/** Mutations of chats: scripts/mutations.mjs. */
const parser = 'lib/chat/reply-parser.ts'
const prompt = 'lib/chat/chat-prompt.ts'
const chat = 'lib/generation/chat.ts'
const turns = ['test/chat/chat.test.ts']
const replies = ['test/chat/reply-parser.test.ts']

export default [
  {
    name: 'chat-gives-out-a-half-mark',
    breaks: 'Text that may begin a mark is given out at once.',
    in: parser,
    find: 'this.#held.length - possibleBegin(this.#held, marks)',
    replace: 'this.#held.length - 0 * possibleBegin(this.#held, marks)',
    tests: replies,
  },
  {
    name: 'chat-loses-a-call-without-end',
    breaks: 'A call that the text ends in is lost.',
    in: parser,
    find: "if (this.#part === 'toolCall') this.#toolCalls.push(parseToolCall(this.#call, 'it has no end'))",
    replace: '',
    tests: replies,
  },
  {
    name: 'chat-thinks-in-the-middle',
    breaks: 'The mark of thoughts counts in the middle of the content.',
    in: parser,
    find: "...(this.#part === 'start' && this.#mayThink && reasoning",
    replace: '...(this.#mayThink && reasoning',
    tests: replies,
  },
  {
    name: 'chat-loses-breaks-between-chunks',
    breaks: 'Line breaks at the end of a chunk are dropped.',
    in: parser,
    find: 'const certain = this.#breaks + text.slice(0, end)',
    replace: 'const certain = text.slice(0, end)',
    tests: replies,
  },
  {
    name: 'chat-users-end-turns',
    breaks: 'Special tokens of a message pass for the template.',
    in: 'lib/chat/plain-words.ts',
    find: '[...part].join(this.#mark)',
    replace: 'part',
    tests: turns,
  },
  {
    name: 'chat-encodes-every-answer-anew',
    breaks: 'Answers lose their tokens.',
    in: prompt,
    find: 'return [{ from, to, tokenIds }]',
    replace: 'return to < 0 ? [{ from, to, tokenIds }] : []',
    tests: turns,
  },
  {
    name: 'chat-has-no-end-of-its-own',
    breaks: "The template's end token does not end an answer.",
    in: chat,
    find: 'return longest ? [longest.id] : []',
    replace: 'return []',
    tests: turns,
  },
  {
    name: 'chat-keeps-the-end-token',
    breaks: "A message's tokens have the end token, which the template writes too.",
    in: chat,
    find: 'hasEnd ? tokenIds.slice(0, -1) : tokenIds.slice()',
    replace: 'tokenIds.slice()',
    tests: turns,
  },
  {
    name: 'chat-holds-tokens-back-for-ever',
    breaks: 'A stream that ends in held text loses its last tokens.',
    in: chat,
    find: 'chunks?.end()',
    replace: '',
    tests: turns,
  },
]
