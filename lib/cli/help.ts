/** Lays out help for terminals of 40 columns or more. */

import { stripVTControlCharacters } from 'node:util'
import { type Command, Help, type Option } from 'commander'
import { paint, type Terminal } from './terminal.js'

/** Columns that a description needs beside its option; with fewer it goes below. */
const LEAST_DESCRIPTION = 40

/** Help of `program` and the commands that copy its settings: layout, width and colours. */
export function configureHelp(program: Command, terminal: Terminal): void {
  const width = terminal.columns
  program
    .helpOption('-h, --help', 'show help')
    .helpCommand('help [command]', 'show help for a command')
    .configureHelp({
      showGlobalOptions: true,
      helpWidth: width,
      minWidthToWrap: 20,
      optionDescription,
      formatItem,
      styleTitle: title => paint('bold', title),
    })
    .configureOutput({
      writeOut: text => {
        const fitted = fitLines(text, width)
        void terminal.writeRaw(terminal.stdoutHasColors ? paintHeadings(fitted) : fitted)
      },
      writeErr: text => void terminal.stderr.write(fitLines(text, width)),
      // Errors are thrown; errors.ts prints them.
      outputError: () => {},
      getOutHasColors: () => terminal.stdoutHasColors,
      getErrHasColors: () => terminal.stderrHasColors,
    })
}

/** `type of the weights (auto, float32; default: auto)`. */
function optionDescription(option: Option): string {
  const { description, argChoices, defaultValue, defaultValueDescription, envVar } = option
  const fallback = defaultValueDescription ?? defaultValue
  const more = [
    ...(argChoices ? [argChoices.join(', ')] : []),
    ...(fallback === undefined ? [] : [`default: ${fallback}`]),
    ...(envVar === undefined ? [] : [`default: ${envVar}`]),
  ]
  return more.length > 0 ? `${description} (${more.join('; ')})` : description
}

/** A term and its description: beside each other, or below in a narrow terminal. */
function formatItem(term: string, termWidth: number, description: string, helper: Help): string {
  const width = helper.helpWidth ?? 80
  if (!description || width - termWidth - 4 >= LEAST_DESCRIPTION)
    return Help.prototype.formatItem.call(helper, term, termWidth, description, helper)
  const wrapped = helper.boxWrap(description, width - 6)
  return `  ${term}\n${wrapped.replaceAll(/^/gm, ' '.repeat(6))}`
}

/** Breaks longer lines at blanks; a command line in an example can still be copied. */
export function fitLines(text: string, width: number): string {
  return text.replaceAll(/^.+$/gm, line => (visibleLength(line) > width ? fit(line, width) : line))
}

function fit(line: string, width: number): string {
  const indent = /^ */.exec(line)![0]
  const isCommand = line.startsWith('$ ', indent.length)
  const [end, next] = isCommand ? [' \\', `${indent}    `] : ['', indent]
  const lines: string[] = []
  let current = indent
  for (const word of line.trim().split(' ')) {
    const longer = current.trim() === '' ? current + word : `${current} ${word}`
    if (current.trim() !== '' && visibleLength(longer) + end.length > width) {
      lines.push(current + end)
      current = next + word
    } else current = longer
  }
  return [...lines, current].join('\n')
}

function visibleLength(text: string): number {
  return stripVTControlCharacters(text).length
}

/** The headings of the texts after the options; commander paints the others. */
function paintHeadings(text: string): string {
  return text.replaceAll(/^(Examples|Tests):/gm, heading => paint('bold', heading))
}
