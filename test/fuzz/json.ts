/**
 * JSON as it is written: numbers as their text, keys that may occur twice. A mutation makes new
 * nodes from the root to the place, and shares the rest with its text.
 */

import { changedBytes } from './bytes.js'
import { changedText, hostileText, numberText } from './hostile.js'
import type { Random } from './random.js'

interface Node {
  readonly text: string
  /** Nodes, this one included. */
  readonly size: number
  /** Of an array or object. */
  readonly children?: readonly Node[]
  /** Of an object: the children's keys. */
  readonly keys?: readonly string[]
}

const leaf = (text: string): Node => ({ text, size: 1 })

function branch(children: readonly Node[], keys?: readonly string[]): Node {
  let size = 1
  for (const child of children) size += child.size
  const text = keys
    ? `{${children.map((child, i) => `${JSON.stringify(keys[i])}:${child.text}`).join(',')}}`
    : `[${children.map(child => child.text).join(',')}]`
  return { text, size, children, ...(keys && { keys }) }
}

function treeOf(value: unknown, depth = 0): Node {
  if (typeof value !== 'object' || value === null || depth > 100) return leaf(JSON.stringify(value))
  const children = Object.values(value).map(inner => treeOf(inner, depth + 1))
  return branch(children, Array.isArray(value) ? undefined : Object.keys(value))
}

/** Trees of the files that inputs start from; those of inputs are not kept. */
const trees = new WeakMap<Buffer, Node>()

function parsed(bytes: Buffer): Node | undefined {
  const known = trees.get(bytes)
  if (known) return known
  try {
    const tree = treeOf(JSON.parse(bytes.toString()))
    trees.set(bytes, tree)
    return tree
  } catch {
    // No JSON, or too deep.
    return undefined
  }
}

/** Changes values and keys; now and then the text. */
export function changedJson(bytes: Buffer, random: Random): Buffer {
  const tree = random.once(25) ? undefined : parsed(bytes)
  if (!tree) return changedBytes(bytes, random)
  const changed = rewrite(tree, random.below(tree.size), node => changedNode(node, tree, random))
  return Buffer.from(changed.text)
}

export function changedJsonText(text: string, random: Random): string {
  return changedJson(Buffer.from(text), random).toString()
}

/** The tree with its node number `index`, in the order of the text, exchanged. */
function rewrite(node: Node, index: number, change: (node: Node) => Node): Node {
  if (index === 0 || !node.children) return change(node)
  let at = 1
  for (const [i, child] of node.children.entries()) {
    if (index < at + child.size) {
      return branch(node.children.with(i, rewrite(child, index - at, change)), node.keys)
    }
    at += child.size
  }
  return node
}

function nodeAt(node: Node, index: number): Node {
  let found = node
  rewrite(node, index, inner => {
    found = inner
    return inner
  })
  return found
}

function changedNode(node: Node, root: Node, random: Random): Node {
  if (random.once(400)) return deep(random)
  if (random.once(6)) return hostileValue(random)
  if (random.once(10)) return nodeAt(root, random.below(root.size))
  if (random.once(25)) return branch([node], random.once(2) ? [hostileText(random)] : undefined)
  if (node.children) return changedBranch(node, root, random)
  if (node.text.startsWith('"')) {
    return leaf(JSON.stringify(changedText(JSON.parse(node.text), random)))
  }
  const number = Number(node.text)
  if (!Number.isFinite(number) || random.once(3)) return hostileValue(random)
  return leaf(String(random.pick([number + 1, number - 1, 2 * number, -number, number / 2])))
}

function changedBranch(node: Node, root: Node, random: Random): Node {
  const children = [...node.children!]
  const keys = node.keys && [...node.keys]
  const [a, b] = [random.below(children.length || 1), random.below(children.length || 1)]
  const other = random.once(2) ? hostileValue(random) : nodeAt(root, random.below(root.size))
  switch (children.length === 0 ? 1 : random.below(6)) {
    case 0:
      children.splice(a, 1)
      keys?.splice(a, 1)
      break
    case 1:
      children.splice(a, 0, other)
      keys?.splice(a, 0, hostileText(random))
      break
    case 2: // In an object: the key twice.
      children.splice(b, 0, random.once(2) ? children[a]! : other)
      keys?.splice(b, 0, keys[a]!)
      break
    case 3:
      ;[children[a], children[b]] = [children[b]!, children[a]!]
      break
    case 4:
      if (keys) keys[a] = changedText(keys[a]!, random)
      else if (children.length < 64) children.push(...children)
      break
    default:
      children[a] = other
  }
  return branch(children, keys)
}

function hostileValue(random: Random): Node {
  switch (random.below(5)) {
    case 0:
      return leaf(random.pick(['null', 'true', 'false', '[]', '{}', '[[]]', '[null]', '{"":{}}']))
    case 1:
      return leaf(JSON.stringify(hostileText(random)))
    case 2:
      return leaf('{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}}}')
    default:
      return leaf(numberText(random))
  }
}

/** Nested so deep that whatever is recursive runs out of stack. */
function deep(random: Random): Node {
  const levels = random.pick([50, 1500, 20_000, 100_000])
  return leaf(
    random.once(2)
      ? '['.repeat(levels) + ']'.repeat(levels)
      : `${'{"a":'.repeat(levels)}1${'}'.repeat(levels)}`,
  )
}
