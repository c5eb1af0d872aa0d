/**
 * Selection by mass, for topP and typicalP. Given items in ascending order of a key: at which key
 * does the running sum of their masses reach a target? A quickselect that weighs its parts answers
 * in O(n) expected, where Hugging Face sorts the vocabulary.
 */

export interface Crossing {
  /**
   * Smallest key at which the mass of the items up to and including it is >= target; else the
   * largest key.
   */
  readonly key: number
  /** Mass of the items with smaller keys; < target. */
  readonly massBefore: number
}

/**
 * Reorders the first `count` >= 1 items of both arrays, together. Keys are not NaN; masses are >=
 * 0; target > 0.
 */
export function findCrossing(
  keys: Float64Array,
  masses: Float64Array,
  count: number,
  target: number,
): Crossing {
  let from = 0
  let to = count
  let massBefore = 0
  for (;;) {
    const pivot = medianOfThree(keys[from]!, keys[(from + to) >>> 1]!, keys[to - 1]!)
    // [from, less) lies below the pivot, [less, at) equals it, [greater, to) lies above. Three
    // parts and not two, so that a vocabulary of ties costs one round.
    let less = from
    let at = from
    let greater = to
    let massLess = 0
    let massEqual = 0
    while (at < greater) {
      const key = keys[at]!
      if (key < pivot) {
        massLess += masses[at]!
        swap(keys, less, at)
        swap(masses, less++, at++)
      } else if (key > pivot) {
        swap(keys, --greater, at)
        swap(masses, greater, at)
      } else {
        massEqual += masses[at++]!
      }
    }
    if (less > from && massBefore + massLess >= target) {
      to = less
    } else if (greater === to || massBefore + massLess + massEqual >= target) {
      return { key: pivot, massBefore: massBefore + massLess }
    } else {
      massBefore += massLess + massEqual
      from = greater
    }
  }
}

function medianOfThree(a: number, b: number, c: number): number {
  return Math.max(Math.min(a, b), Math.min(Math.max(a, b), c))
}

function swap(array: Float64Array, i: number, j: number): void {
  const held = array[i]!
  array[i] = array[j]!
  array[j] = held
}
