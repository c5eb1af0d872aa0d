/** The example that computes the header, as it is. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { transformSync } from 'esbuild'
import { root } from '../support/golden.js'

type Example = typeof import('../../examples/prefix-header.js')

const source = readFileSync(join(root, 'examples', 'prefix-header.ts'), 'utf8')
const { code } = transformSync(source, { loader: 'ts', format: 'esm' })

export const { prefixHeader }: Example = await import(
  `data:text/javascript,${encodeURIComponent(code)}`
)
