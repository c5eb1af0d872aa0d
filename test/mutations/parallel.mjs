/** Mutations of models on several ranks: scripts/mutations.mjs. */
const lockstep = 'lib/parallel/lockstep.ts'
const leader = 'lib/generation/leader.ts'
const rounds = ['test/parallel/lockstep.test.ts']
const calls = ['test/parallel/calls.test.ts']
const recording = ['test/parallel/recording.test.ts']

export default [
  {
    name: 'parallel-leaves-engines-behind',
    breaks: 'A round does not wait for an engine that is awake.',
    in: lockstep,
    find: 'if (this.#isAwake) return Number.POSITIVE_INFINITY',
    replace: '',
    tests: rounds,
  },
  {
    name: 'parallel-waits-for-the-heartbeat',
    breaks: 'Rank 0 looks for answers no more often than for dead ranks.',
    in: lockstep,
    find: 'return this.#post.expects ? this.#pauseMs : this.#heartbeatMs',
    replace: 'return 20 * this.#heartbeatMs',
    tests: rounds,
  },
  {
    name: 'parallel-letters-unread',
    breaks: 'A rank goes on although it cannot read its letters.',
    in: lockstep,
    find: 'if (letters.fault) throw letters.fault',
    replace: '',
    tests: rounds,
  },
  {
    name: 'parallel-runs-without-tokens',
    breaks: 'A step runs although no rank has tokens.',
    in: 'native/binding/objects.cc',
    find: '*has_run = step->sizes.received > 0;',
    replace: '*has_run = true;',
    tests: ['test/parallel/groups.test.ts'],
  },
  {
    name: 'parallel-fails-in-silence',
    breaks: 'A rank that fails does not tell the others.',
    in: lockstep,
    find: 'this.#group.abort(failure.message)',
    replace: '',
    tests: rounds,
  },
  {
    name: 'parallel-keeps-all-texts',
    breaks: 'Rank 0 computes every text itself.',
    in: leader,
    find: 'const rank = totals.indexOf(Math.min(...totals))',
    replace: 'const rank = 0 * totals.length',
    tests: ['test/parallel/models.test.ts'],
  },
  {
    name: 'parallel-forgets-prompts',
    breaks: 'A prompt goes anywhere, wherever its beginning is.',
    in: leader,
    find: 'const shared = this.#ranks[rank]!.prefixes.shared(promptIds)',
    replace: 'const shared = 0 * promptIds.length * rank',
    tests: calls,
  },
  {
    name: 'parallel-goes-on-after-an-abort',
    breaks: 'An abort does not reach the rank of the text.',
    in: leader,
    find: "send({ kind: 'cancel', id })",
    replace: '',
    tests: calls,
  },
  {
    name: 'parallel-counts-its-own-texts',
    breaks: "Rank 0's figures leave other ranks out.",
    in: leader,
    find: 'this.#stats.set(from, letter.stats)',
    replace: '',
    tests: calls,
  },
  {
    name: 'parallel-followers-take-calls',
    breaks: 'Ranks above 0 take calls of their own.',
    in: 'lib/generation/membership.ts',
    find: 'if (this.#follower) throw this.#follower.refusal()',
    replace: '',
    tests: calls,
  },
  {
    name: 'parallel-reads-the-first-experts',
    breaks: 'Each rank reads the first experts of a stack.',
    in: 'lib/tensor/stack.ts',
    find: 'byteOffset: ref.byteOffset + first * step',
    replace: 'byteOffset: ref.byteOffset + 0 * first * step',
    tests: recording,
  },
  {
    name: 'parallel-sends-copies-away',
    breaks: 'A rank sends picks of an expert that it holds to another copy.',
    in: 'lib/program/placement.ts',
    find: 'ranks.includes(this.rank) ? this.rank : ranks[this.rank % ranks.length]!',
    replace: 'ranks[this.rank % ranks.length]!',
    tests: recording,
  },
  {
    name: 'parallel-takes-any-options',
    breaks: 'Ranks with different options load.',
    in: 'lib/load/group.ts',
    find: 'await agree(group, factsOf(plan))',
    replace: 'void [agree, factsOf]',
    tests: calls,
  },
]
