import t from 'tap'
import { PromptLookup } from '../../lib/sampling/prompt-lookup.js'
import { mix } from '../engine/fake-runner.js'

t.test('the tokens after the latest place with the same last tokens', async t => {
  const lookup = new PromptLookup({ ngram: 2, tokens: 4 }, [1, 2, 3, 4, 9, 1, 2, 5, 6, 7, 1], 99)
  t.same(lookup.draft(4), [], 'no earlier place has 7, 1')
  lookup.append(2)
  t.same(lookup.draft(4), [5, 6, 7, 1])
  t.same(lookup.draft(2), [5, 6], 'no more than there is room for')
  t.same(lookup.draft(0), [])
})

t.test('a repetition goes on beyond its end', async t => {
  t.same(
    new PromptLookup({ ngram: 2, tokens: 7 }, [8, 1, 2, 3, 1, 2], 99).draft(9),
    [3, 1, 2, 3, 1, 2, 3],
  )
  t.same(new PromptLookup({ ngram: 1, tokens: 3 }, [5, 5], 99).draft(9), [5, 5, 5])
})

t.test('a place that goes right is kept, though a later one has the same last tokens', async t => {
  const lookup = new PromptLookup({ ngram: 1, tokens: 2 }, [1, 2, 3, 4, 7, 3, 9, 1], 99)
  lookup.append(2)
  lookup.append(3)
  t.same(lookup.draft(2), [4, 7])
})

t.test('fewer guesses after a wrong one, pauses after nothing but wrong ones', async t => {
  const prompt = Array.from({ length: 1000 }, (_, i) => i)
  const lookup = new PromptLookup({ ngram: 1, tokens: 8 }, prompt, 2000)
  let fresh = prompt.length
  let chapter = 0
  /** Number of guesses at a new place. So many of them come. */
  const guesses = (right: number) => {
    lookup.append(20 * chapter++)
    const drafted = lookup.draft(99)
    for (const guess of drafted.slice(0, right)) lookup.append(guess)
    lookup.append(fresh++)
    return drafted.length
  }
  t.same([8, 3, 1, 1].map(guesses), [8, 8, 3, 1])
  t.same([2, 4, 8, 0].map(guesses), [2, 4, 8, 8], 'twice as many after right ones, up to 8')
  t.equal(guesses(1), 1)
  const pauses: number[] = []
  lookup.append(7)
  lookup.draft(1)
  for (let round = 0; round < 7; round++) {
    lookup.append(fresh++)
    let pause = 0
    for (; lookup.draft(1).length === 0; pause++) lookup.append(7)
    pauses.push(pause)
  }
  t.same(pauses, [1, 2, 4, 8, 16, 32, 32])
})

t.test('as a scan of the whole text finds them', async t => {
  for (let seed = 0; seed < 20; seed++) {
    const ngram = 1 + (seed % 4)
    const text = Array.from({ length: 300 }, (_, i) => mix(seed, i, 0) % 3)
    const lookup = new PromptLookup({ ngram, tokens: 1 }, [], 1 << 20)
    let place: number | undefined
    for (const [i, token] of text.entries()) {
      lookup.append(token)
      if (i + 1 < ngram) continue
      place = place !== undefined && text[place] === token ? place + 1 : latest(text, i + 1, ngram)
      const [guess] = lookup.draft(1)
      // A pause is no guess.
      if (guess !== undefined) t.equal(guess, text[place!], `seed ${seed}, token ${i}`)
    }
  }
})

t.test('n-grams of one hash are no guess', async t => {
  // Two places for a thousand n-grams.
  const tokens = Array.from({ length: 1000 }, (_, i) => i)
  const lookup = new PromptLookup({ ngram: 2, tokens: 1 }, [], 1)
  for (const token of tokens) {
    lookup.append(token)
    t.same(lookup.draft(1), [])
  }
})

/** The place after the latest earlier occurrence of the last tokens of text[0 .. length). */
function latest(text: readonly number[], length: number, ngram: number): number | undefined {
  const last = `${text.slice(length - ngram, length)}`
  for (let end = length - 1; end >= ngram; end--)
    if (`${text.slice(end - ngram, end)}` === last) return end
  return undefined
}
