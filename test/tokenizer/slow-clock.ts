/**
 * Counts how often other events run during a work. By its clock each slice of the work is over
 * when it is looked at. So the count does not depend on the machine.
 */
export async function countTurns<T>(
  work: () => Promise<T>,
  onTurn: (turn: number) => void = () => {},
): Promise<{ result: T; turns: number }> {
  let time = 0
  let turns = 0
  let isOver = false
  performance.now = () => {
    time += 1000
    return time
  }
  const turn = () => {
    if (isOver) return
    onTurn(++turns)
    setImmediate(turn)
  }
  setImmediate(turn)
  try {
    return { result: await work(), turns }
  } finally {
    isOver = true
    // The real one is the prototype's.
    delete (performance as { now?: () => number }).now
  }
}
