/**
 * Work of unknown length that gives up control often: a generator that yields each millisecond or
 * sooner, and returns the result. The caller runs it in one go, or lets other events run between.
 */
export type Steps<T = void> = Generator<undefined, T>

/** Characters or merges between two yields: far less than a millisecond of work. */
export const STEP = 1024
