/**
 * The forms of the published data sets, and the prompts that the harness makes of them:
 * lm_eval/tasks at the commit that harness.ts names.
 */

import { capitalize, SPACE, strip } from '../template/text-methods.js'
import { badFile, type DataRecord } from './records.js'

/** Two texts: the probability of the second after the first is wanted. */
export interface Request {
  readonly context: string
  readonly continuation: string
}

/** One document of a task. */
export interface Question {
  /** One for each choice; LAMBADA has one. */
  readonly requests: readonly Request[]
  /** Characters of each choice, by which acc_norm divides. */
  readonly lengths: readonly number[]
  /** The right choice. */
  readonly gold: number
  /** Before all else, in a prompt: MMLU's sentence about the subject. */
  readonly description: string
  /** Of those that come in one file, as MMLU's subjects do. */
  readonly subject?: string
  /** The document as an example for another one. */
  readonly example: string
}

/** The metrics of a form, as the harness lists them. */
export type Scoring = 'acc' | 'acc and acc_norm' | 'perplexity and acc'

/**
 * The harness's choice of examples. The first ones, or at random. It leaves out the question itself
 * for tasks without a test split alone.
 */
export type Sampling = 'first' | 'random' | 'random others'

export interface Form {
  readonly name: string
  /** Other names of the harness for the same form. */
  readonly aliases: readonly string[]
  readonly scoring: Scoring
  readonly sampling: Sampling
  /** True if a record has the form's fields. */
  fits(record: DataRecord): boolean
  /** @throws MoeppError ERR_BAD_FILE */
  read(record: DataRecord): Question
}

/** Sets each example apart from the next text. */
const EXAMPLE_END = '\n\n'

const trim = (text: string) => strip(text, undefined, true, true)

/** Length in code points: the length of a Python str. */
const lengthOf = (text: string) => Array.from(text).length

/** One text, after which the choices are compared. */
function choiceOf(context: string, choices: readonly string[], gold: number): Question {
  return {
    requests: choices.map(choice => ({ context, continuation: ` ${choice}` })),
    lengths: choices.map(lengthOf),
    gold,
    description: '',
    example: `${context} ${choices[gold]}${EXAMPLE_END}`,
  }
}

/** Partial scoring: the text up to the blank differs, and what follows is scored. */
const winogrande: Form = {
  name: 'winogrande',
  aliases: [],
  scoring: 'acc',
  sampling: 'random others',
  fits: record => record.has('sentence', 'option1', 'option2'),
  read(record) {
    const sentence = record.text('sentence')
    const blank = sentence.indexOf('_')
    if (blank < 0) record.fail('sentence', 'a text with a blank: _', sentence)
    const answer = record.take('answer')
    const gold = ['1', '2'].indexOf(String(answer))
    if (gold < 0) record.fail('answer', '"1" or "2"', answer)
    const options = [record.text('option1'), record.text('option2')]
    const contexts = options.map(option => sentence.slice(0, blank) + option)
    const rest = trim(sentence.slice(blank + 1))
    return {
      requests: contexts.map(context => ({ context, continuation: ` ${rest}` })),
      lengths: contexts.map(lengthOf),
      gold,
      description: '',
      example: `${contexts[gold]} ${rest}${EXAMPLE_END}`,
    }
  },
}

const arc: Form = {
  name: 'arc',
  aliases: ['arc_easy', 'arc_challenge'],
  scoring: 'acc and acc_norm',
  sampling: 'random',
  fits: record => record.has('question', 'answerKey'),
  read(record) {
    const { question, texts, labels } = arcParts(record)
    const answer = record.text('answerKey')
    const gold = labels.indexOf(answer)
    if (gold < 0) record.fail('answerKey', `one of ${labels.join(', ')}`, answer)
    return choiceOf(`Question: ${question}\nAnswer:`, texts, gold)
  },
}

/** The hub's form, or the original release's with the choices within the question. */
function arcParts(record: DataRecord) {
  if (typeof record.take('question') === 'string') {
    const choices = record.inner('choices')
    const [texts, labels] = [choices.texts('text'), choices.texts('label')]
    if (texts.length !== labels.length) choices.fail('label', `${texts.length} labels`, labels)
    return { question: record.text('question'), texts, labels }
  }
  const question = record.inner('question')
  const choices = question.list('choices')
  return {
    question: question.text('stem'),
    texts: choices.map(choice => choice.text('text')),
    labels: choices.map(choice => choice.text('label')),
  }
}

const hellaswag: Form = {
  name: 'hellaswag',
  aliases: [],
  scoring: 'acc and acc_norm',
  sampling: 'random others',
  fits: record => record.has('ctx_a', 'ctx_b', 'endings'),
  read(record) {
    const context = `${record.text('ctx_a')} ${capitalize(record.text('ctx_b'))}`
    const endings = record.texts('endings').map(withoutMarks)
    const gold = record.index('label', endings.length)
    return choiceOf(withoutMarks(`${record.text('activity_label')}: ${context}`), endings, gold)
  },
}

/** HellaSwag's text without the marks that WikiHow's articles left in it. */
function withoutMarks(text: string): string {
  return trim(text)
    .replaceAll(' [title]', '. ')
    .replaceAll(/\[[^\n]*?\]/g, '')
    .replaceAll('  ', ' ')
}

const piqa: Form = {
  name: 'piqa',
  aliases: [],
  scoring: 'acc and acc_norm',
  sampling: 'random others',
  fits: record => record.has('goal', 'sol1', 'sol2'),
  read(record) {
    const choices = [record.text('sol1'), record.text('sol2')]
    const context = `Question: ${record.text('goal')}\nAnswer:`
    return choiceOf(context, choices, record.index('label', choices.length))
  },
}

const boolq: Form = {
  name: 'boolq',
  aliases: [],
  scoring: 'acc',
  sampling: 'random others',
  fits: record => record.has('passage', 'question'),
  read(record) {
    const answer = record.take('answer') ?? record.take('label')
    const found = [false, true, 0, 1].indexOf(answer as boolean | number)
    if (found < 0) record.fail('answer', 'true or false', answer)
    const context = `${record.text('passage')}\nQuestion: ${record.text('question')}?\nAnswer:`
    return choiceOf(context, ['no', 'yes'], found % 2)
  },
}

const LETTERS = ['A', 'B', 'C', 'D']

const mmlu: Form = {
  name: 'mmlu',
  aliases: [],
  scoring: 'acc',
  sampling: 'first',
  fits: record => record.has('question', 'choices', 'answer'),
  read(record) {
    const choices = record.texts('choices')
    if (choices.length !== LETTERS.length) record.fail('choices', 'four texts', choices)
    const listed = choices.map((choice, i) => `${LETTERS[i]}. ${choice}\n`).join('')
    const subject = record.text('subject')
    const about = subject.replaceAll('_', ' ')
    const context = `${trim(record.text('question'))}\n${listed}Answer:`
    return {
      ...choiceOf(context, LETTERS, record.index('answer', LETTERS.length)),
      description: `The following are multiple choice questions (with answers) about ${about}.\n\n`,
      subject,
    }
  },
}

/** The last word after all before it. An example has two blanks before it, as the harness's has. */
const lambada: Form = {
  name: 'lambada',
  aliases: ['lambada_openai', 'lambada_standard'],
  scoring: 'perplexity and acc',
  sampling: 'random',
  // A text alone may be anything: the name of the task or of the file says that it is LAMBADA's.
  fits: () => false,
  read(record) {
    const text = record.text('text')
    const words = text.split(' ')
    const continuation = ` ${words.pop()}`
    const context = words.join(' ')
    return {
      requests: [{ context, continuation }],
      lengths: [lengthOf(continuation)],
      gold: 0,
      description: '',
      example: `${context} ${continuation}${EXAMPLE_END}`,
    }
  },
}

/** In the order in which a record is compared with them. */
export const FORMS: readonly Form[] = [winogrande, arc, hellaswag, piqa, boolq, mmlu, lambada]

/** Parts between whitespace, as Python's re.split counts words. */
export function countWords(text: string): number {
  return text.split(new RegExp(`${SPACE}+`, 'u')).length
}

/** The form that a record's fields show. */
export function formOf(record: DataRecord): Form {
  const form = FORMS.find(each => each.fits(record))
  if (form) return form
  const fields = Object.keys(record.fields).slice(0, 12).join(', ')
  const known = FORMS.map(({ name }) => name).join(', ')
  throw badFile(record.where, `expected the fields of ${known}, or text; got ${fields || 'none'}`)
}
