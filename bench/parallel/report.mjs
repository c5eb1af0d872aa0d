// The tables of simulate.mjs.
const ms = seconds => (1000 * seconds).toFixed(3)
const percent = share => `${(100 * share).toFixed(1)} %`
const bytes = count =>
  count >= 1e6 ? `${(count / 1e6).toFixed(2)} MB` : `${(count / 1e3).toFixed(1)} kB`

/** Names of what rows are of. */
const WORDS = { model: 'MoE++', twin: 'vanilla', copies: 'greedy + copies' }
const word = name => WORDS[name] ?? name

/** Lines of columns, the first to the left and the others to the right. */
export function table(heads, rows) {
  const all = [heads, ...rows.map(row => row.map(String))]
  const widths = heads.map((_, i) => Math.max(...all.map(row => row[i].length)))
  return all
    .map(row =>
      row
        .map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i])))
        .join('  '),
    )
    .join('\n')
}

const HEADS = [
  ...['ranks', 'model', 'placement', 'step ms', 'dense', 'experts', 'exchange', 'head', 'mail'],
  ...['imbalance', 'sent/rank', 'messages', 'local', 'tokens/s', 'efficiency'],
]

function phaseTable(rows) {
  return table(
    HEADS,
    rows.map(row => [
      row.groups > 1 ? `${row.ranks} (${row.groups} groups)` : row.ranks,
      word(row.model),
      word(row.placement),
      ms(row.seconds),
      ...['dense', 'experts', 'exchange', 'head', 'mail'].map(part => ms(row.parts[part])),
      row.imbalance.toFixed(2),
      bytes(row.bytesOfRank),
      row.messagesOfRank.toFixed(0),
      percent(row.localShare),
      row.tokensPerSecond.toFixed(0),
      row.efficiency === null ? '-' : percent(row.efficiency),
    ]),
  )
}

/** Of each number of ranks: bytes that the model saves against its twin, beside the ideal. */
export function savings(rows, ideal) {
  const found = []
  for (const { phase, ranks, bytesOfRank } of rows.filter(
    ({ model, placement, bytesOfRank }) =>
      model === 'model' && placement === 'contiguous' && bytesOfRank > 0,
  )) {
    const twin = rows.find(
      row => row.phase === phase && row.ranks === ranks && row.model === 'twin',
    )
    const saved = 1 - bytesOfRank / twin.bytesOfRank
    found.push({ phase, ranks, saved, ofIdeal: saved / ideal.recorded })
  }
  return found
}

function printSavings({ rows, ideal }) {
  console.log(
    `\nbytes saved by zero-computation experts; they have ${percent(ideal.recorded)} of the picks, and ` +
      `${percent(ideal.even)} by N_ZC / (tau N_FFN + N_ZC) with tau 0.75`,
  )
  const lines = savings(rows, ideal).map(({ phase, ranks, saved, ofIdeal }) => [
    phase,
    ranks,
    percent(saved),
    ideal.recorded > 0 ? percent(ofIdeal) : '-',
  ])
  console.log(table(['phase', 'ranks', 'saved', 'of the share of picks'], lines))
}

function printSecond(second, { 'latency-us': latency, gbit }) {
  console.log(`\ndecoding on two machines, ${latency} us and ${gbit} Gbit/s apart, against one`)
  const lines = second.map(({ model, sequences, one, two }) => [
    word(model),
    sequences,
    ms(one),
    ms(two),
    `${(one / two).toFixed(2)} x`,
  ])
  console.log(table(['model', 'sequences', 'one, ms', 'two, ms', 'gain'], lines))
  for (const model of ['model', 'twin']) {
    const first = paysFrom(second.filter(row => row.model === model))
    const words = first === undefined ? 'never, of these' : `from ${first} sequences on`
    console.log(`${word(model)}: a second machine pays ${words}`)
  }
}

/** The number of sequences from where on two machines are faster for all that follow. */
export function paysFrom(rows) {
  const last = rows.findLastIndex(({ one, two }) => two >= one)
  return rows[last + 1]?.sequences
}

/** A count that is there is to be the predicted one exactly. */
export function differences({ counts, predicted: { total } }) {
  if (counts === null) return []
  const expected = {
    bytesSent: total.bytes,
    messagesSent: total.messages,
    picks: total.picks,
    localPicks: total.localPicks,
  }
  return Object.keys(expected).filter(name => counts[name] !== expected[name])
}

function printValidation(validation) {
  console.log('\nvalidation: ranks of this machine, under mpirun')
  const lines = validation.map(run => {
    const { predicted, seconds } = run
    const wrong = differences(run)
    return [
      run.ranks,
      word(run.model),
      run.phase,
      ms(seconds),
      ms(predicted.seconds),
      `${predicted.seconds >= seconds ? '+' : ''}${percent(predicted.seconds / seconds - 1)}`,
      run.counts === null ? '-' : wrong.length === 0 ? 'equal' : `other ${wrong.join(', ')}`,
    ]
  })
  const heads = ['ranks', 'model', 'phase', 'measured ms', 'predicted ms', 'miss', 'counts']
  console.log(table(heads, lines))
}

export function print(document) {
  const { title, machine, date, options, rows, second, validation, costs } = document
  console.log(`${title}, threads of a rank: ${costs.threads}. ${machine}. ${date}`)
  if (options.shape !== undefined)
    console.log(`picks are resampled from ${options.model}, and stand for no trained model`)
  const leftOut = options.ranks.filter(ranks => !rows.some(row => row.ranks === ranks))
  if (leftOut.length > 0) {
    const { experts } = costs.compute
    console.log(`left out: ${leftOut} ranks, which are no equal groups of ${experts} at most`)
  }
  for (const phase of ['decode', 'prefill']) {
    const of =
      phase === 'decode'
        ? `decoding ${options.sequences} sequences a rank`
        : `prefill of ${options.prompt} tokens a rank`
    console.log(
      `\n${of}; a machine for each rank, ${options['latency-us']} us and ${options.gbit} Gbit/s`,
    )
    console.log(phaseTable(rows.filter(row => row.phase === phase)))
  }
  printSavings(document)
  printSecond(second, options)
  if (validation) printValidation(validation)
}
