/** Mutations of chat templates: scripts/mutations.mjs. */
const tests = ['test/template/python.test.ts']

export default [
  {
    name: 'template-strip-takes-whitespace-alone',
    breaks: 'strip() ignores the characters that it is given.',
    in: 'lib/template',
    find: 'set ? set.has(character) : isSpace.test(character)',
    replace: 'isSpace.test(character)',
    tests,
  },
  {
    name: 'template-macro-sees-its-caller',
    breaks: 'A macro sees the names where it is called.',
    in: 'lib/template',
    find: 'return run(args, inner)',
    replace: 'return run(args, callScope)',
    tests,
  },
  {
    name: 'template-exponent-of-one-digit',
    breaks: 'A small number has an exponent of one digit, as JavaScript writes it.',
    in: 'lib/template',
    find: ".replace(/e([+-])(\\d)$/, 'e$10$2')",
    replace: '',
    tests,
  },
  {
    name: 'template-break-drops-its-text',
    breaks: "The text that a loop's turn wrote before break or continue is lost.",
    in: 'lib/template',
    find: 'error.text = text + error.text',
    replace: "error.text = ''",
    tests,
  },
  {
    name: 'template-tool-use-is-not-chosen',
    breaks: 'Tools do not choose the template tool_use.',
    in: 'lib/template',
    find: "templates.has('tool_use') ? 'tool_use'",
    replace: "templates.has('tool_use') ? 'default'",
    tests: ['test/template/messages.test.ts'],
  },
  {
    name: 'template-config-wins',
    breaks: 'The template of tokenizer_config.json wins over chat_template.jinja.',
    in: 'lib/tokenizer',
    find: 'if (texts.size > 0)',
    replace: 'if (texts.size > 0 && !config.chat_template)',
    tests: ['test/template/files.test.ts'],
  },
  {
    name: 'template-words-reach-a-terminal',
    breaks: "Control characters of a template's refusal reach the error's message.",
    in: 'lib/template',
    find: 'return printable(message.length > MOST_WORDS',
    replace: 'return (message.length > MOST_WORDS',
    tests: ['test/template/hostile.test.ts'],
  },
]
