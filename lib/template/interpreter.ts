/**
 * @huggingface/jinja's interpreter, with the results of Python's Jinja in the environment of
 * transformers. The library evaluates most as Python does. This class replaces the rest: how values
 * print and compare, scopes of loops and macros, undefined values, methods and filters. Texts and
 * lists have a limit, because a template could double them.
 */
import { Environment, Interpreter as Library } from '@huggingface/jinja'
import { Arguments, compare, contains, filterOf, testOf } from './filters.js'
import { strOf } from './printing.js'
import { textMethod } from './text-methods.js'
import {
  bounded,
  type Callable,
  checkItems,
  checkLength,
  isEqual,
  isList,
  isText,
  isTrue,
  isUndefined,
  itemsOf,
  kind,
  NONE,
  numberOf,
  ofBoolean,
  ofDict,
  ofFloat,
  ofFunction,
  ofInteger,
  ofList,
  ofText,
  UNDEFINED,
  type Value,
} from './values.js'

/** A node of the library's syntax tree; which fields are there follows from its type. */
export interface Node {
  readonly type: string
  readonly [field: string]: unknown
}

/** The methods of the library's that this class uses. Its types call them private. */
interface Internals {
  evaluate(node: Node | undefined, scope: Environment): Value
  evaluateArguments(args: unknown, scope: Environment): [Value[], Map<string, Value>]
  evaluateBinaryExpression(node: Node, scope: Environment): Value
  evaluateMemberExpression(node: Node, scope: Environment): Value
  evaluateMacro(node: Node, scope: Environment): Value
  applyFilter(x: Value, filter: Node, scope: Environment): Value
}
const Base = Library as unknown as new (scope: Environment) => Internals

/** A `break` or `continue`, with the text that its loop's turn has written so far. */
class LoopJump extends Error {
  readonly isBreak: boolean
  text = ''

  constructor(isBreak: boolean) {
    super(`${isBreak ? 'break' : 'continue'} outside of a loop`)
    this.isBreak = isBreak
  }
}

/** These write nothing. Expressions write their value. */
const SILENT: ReadonlySet<string> = new Set(['Set', 'Macro', 'Comment'])

export class Interpreter extends Base {
  override evaluate(node: Node | undefined, scope: Environment): Value {
    switch (node?.type) {
      case 'Value':
        return node.value as Value
      case 'Break':
      case 'Continue':
        throw new LoopJump(node.type === 'Break')
    }
    const value = super.evaluate(node, scope)
    if (isText(value)) bounded(value.value)
    if (isList(value)) checkItems(value.value.length)
    return value
  }

  evaluateBlock(nodes: readonly Node[], scope: Environment): Value {
    let text = ''
    try {
      for (const node of nodes) {
        const value = this.evaluate(node, scope)
        if (!SILENT.has(node.type)) text = bounded(text + strOf(value))
      }
    } catch (error) {
      if (error instanceof LoopJump) error.text = text + error.text
      throw error
    }
    return ofText(text)
  }

  /** The library's way is recursive, and takes a full stack for an unknown name. */
  evaluateIdentifier(node: Node, scope: Environment): Value {
    return lookUp(node.value as string, scope)
  }

  /** Each turn has a scope of its own: what it sets, the next one does not see. */
  evaluateFor(node: Node, scope: Environment): Value {
    const { type, lhs, test } = node.iterable as Node
    const isFiltered = type === 'SelectExpression'
    const iterable = this.evaluate((isFiltered ? lhs : node.iterable) as Node, scope)
    const turns = itemsOf(iterable)
      .map(item => ({ item, scope: loopScope(node.loopvar as Node, item, scope) }))
      .filter(turn => !isFiltered || isTrue(this.evaluate(test as Node, turn.scope)))
    if (turns.length === 0) return this.evaluateBlock(node.defaultBlock as Node[], scope)
    const items = turns.map(turn => turn.item)
    let text = ''
    for (const [at, turn] of turns.entries()) {
      setIn(turn.scope, 'loop', loopVariable(items, at))
      try {
        text = bounded(text + strOf(this.evaluateBlock(node.body as Node[], turn.scope)))
      } catch (error) {
        if (!(error instanceof LoopJump)) throw error
        text = bounded(text + error.text)
        if (error.isBreak) break
      }
    }
    return ofText(text)
  }

  override evaluateBinaryExpression(node: Node, scope: Environment): Value {
    const { value: operator } = node.operator as { value: string }
    if (operator === 'and' || operator === 'or') return super.evaluateBinaryExpression(node, scope)
    const left = this.evaluate(node.left as Node, scope)
    const right = this.evaluate(node.right as Node, scope)
    const result = binary(operator, left, right)
    if (result) return result
    return super.evaluateBinaryExpression(
      { ...node, left: constant(left), right: constant(right) },
      scope,
    )
  }

  override evaluateMemberExpression(node: Node, scope: Environment): Value {
    const object = this.evaluate(node.object as Node, scope)
    const property = node.property as Node
    const isSlice = node.computed && property.type === 'SliceExpression'
    if (isUndefined(object)) throw new Error(`${nameOf(node.object as Node)} is undefined`)
    if (isSlice) return super.evaluateMemberExpression({ ...node, object: constant(object) }, scope)
    const isName = !node.computed && property.type === 'Identifier'
    const key = isName ? ofText(property.value as string) : this.evaluate(property, scope)
    return member(object, key, isName)
  }

  override applyFilter(x: Value, node: Node, scope: Environment): Value {
    const isCall = node.type === 'CallExpression'
    const name = (isCall ? (node.callee as Node) : node).value as string
    const filter = filterOf(name)
    if (!filter) return super.applyFilter(x, node, scope)
    const [list, named] = this.evaluateArguments(isCall ? node.args : [], scope)
    return filter(x, new Arguments(list, named))
  }

  /** A macro sees the names where it stands, not those where it is called. */
  override evaluateMacro(node: Node, scope: Environment): Value {
    super.evaluateMacro(node, scope)
    const name = (node.name as Node).value as string
    const run = lookUp(name, scope).value as Callable
    const macro = ofFunction((args, callScope) => {
      const inner = new Environment(scope)
      const caller = callScope.variables.get('caller')
      if (caller) inner.setVariable('caller', caller)
      return run(args, inner)
    })
    setIn(scope, name, macro)
    return NONE
  }

  evaluateTestExpression(node: Node, scope: Environment): Value {
    const test = testOf((node.test as Node).value as string)
    const passes = test(this.evaluate(node.operand as Node, scope), new Arguments([], new Map()))
    return ofBoolean(passes !== node.negate)
  }
}

function lookUp(name: string, scope: Environment): Value {
  for (let at: Environment | undefined = scope; at; at = at.parent) {
    const value = at.variables.get(name)
    if (value) return value as unknown as Value
  }
  return UNDEFINED
}

/** An expression's name in the template's text. */
function nameOf({ type, value, property, computed }: Node): string {
  if (type === 'Identifier') return `'${value}'`
  return type === 'MemberExpression' && !computed ? nameOf(property as Node) : 'a value'
}

/** A node whose value is known. */
const constant = (value: Value): Node => ({ type: 'Value', value })

export function setIn(scope: Environment, name: string, value: Value): void {
  scope.setVariable(name, value as never)
}

function loopScope(target: Node, item: Value, scope: Environment): Environment {
  const inner = new Environment(scope)
  if (target.type === 'Identifier') {
    setIn(inner, target.value as string, item)
    return inner
  }
  const names = target.value as Node[]
  const items = itemsOf(item)
  if (items.length !== names.length)
    throw new Error(`expected ${names.length} items to unpack, got ${items.length}`)
  for (const [i, name] of names.entries()) setIn(inner, name.value as string, items[i]!)
  return inner
}

function loopVariable(items: readonly Value[], at: number): Value {
  return ofDict(
    new Map(
      Object.entries({
        index: ofInteger(at + 1),
        index0: ofInteger(at),
        revindex: ofInteger(items.length - at),
        revindex0: ofInteger(items.length - at - 1),
        first: ofBoolean(at === 0),
        last: ofBoolean(at === items.length - 1),
        length: ofInteger(items.length),
        previtem: items[at - 1] ?? UNDEFINED,
        nextitem: items[at + 1] ?? UNDEFINED,
        cycle: ofFunction(args => args[at % args.length] ?? UNDEFINED),
      }),
    ),
  )
}

/** Python's result where the library's differs. */
function binary(operator: string, left: Value, right: Value): Value | undefined {
  switch (operator) {
    case '==':
      return ofBoolean(isEqual(left, right))
    case '!=':
      return ofBoolean(!isEqual(left, right))
    case '~':
      return ofText(strOf(left) + strOf(right))
    case 'in':
      return ofBoolean(contains(right, left))
    case 'not in':
      return ofBoolean(!contains(right, left))
    case '<':
      return ofBoolean(compare(left, right) < 0)
    case '<=':
      return ofBoolean(compare(left, right) <= 0)
    case '>':
      return ofBoolean(compare(left, right) > 0)
    case '>=':
      return ofBoolean(compare(left, right) >= 0)
    case '+':
      if (isText(left) && isText(right)) return ofText(left.value + right.value)
      if (isList(left) && isList(right)) return ofList(left.value.concat(right.value))
  }
  return arithmetic(operator, left, right)
}

/** Python's numbers: remainders have the divisor's sign, and nothing is divided by 0. */
function arithmetic(operator: string, left: Value, right: Value): Value | undefined {
  if (operator === '*' && isText(left) && right.type === 'IntegerValue')
    return ofText(repeated(left.value, right.value as number))
  const [a, b] = [numberOf(left), numberOf(right)]
  if (a === undefined || b === undefined)
    throw new Error(`${kind(left)} ${operator} ${kind(right)} is not possible`)
  if (['/', '//', '%'].includes(operator) && b === 0) throw new Error('division by zero')
  if (operator !== '%') return undefined
  const isFloat = left.type === 'FloatValue' || right.type === 'FloatValue'
  const remainder = a - b * Math.floor(a / b)
  return isFloat ? ofFloat(remainder) : ofInteger(remainder)
}

function repeated(text: string, times: number): string {
  const count = Math.max(0, times)
  checkLength(count * text.length)
  return text.repeat(count)
}

/** `object.name`, an attribute first, or `object[key]`, an item first. */
function member(object: Value, key: Value, isName: boolean): Value {
  if (isList(object))
    return typeof key.value === 'number' ? at(object.value, key.value) : attribute(object, key)
  if (isText(object) && typeof key.value === 'number') {
    return at(Array.from(object.value, ofText), key.value)
  }
  if (!isText(key)) return UNDEFINED
  const item = itemOf(object, key.value)
  if (isName && object.type !== 'NamespaceValue') return orElse(attribute(object, key), item)
  return orElse(item, attribute(object, key))
}

const at = (items: readonly Value[], index: number): Value => items.at(index) ?? UNDEFINED
const orElse = (x: Value, y: Value): Value => (isUndefined(x) ? y : x)

function itemOf(object: Value, key: string): Value {
  return object.value instanceof Map ? (object.value.get(key) ?? UNDEFINED) : UNDEFINED
}

/** A method. The library's `length` of a list or text is no attribute in Python. */
function attribute(object: Value, key: Value): Value {
  if (!isText(key)) return UNDEFINED
  const name = key.value
  if (isText(object)) {
    const method = textMethod(object.value, name)
    if (method) return method
  }
  const builtin = object.builtins.get(name)
  return builtin?.type === 'FunctionValue' && name !== 'dictsort' ? builtin : UNDEFINED
}
