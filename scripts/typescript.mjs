// Runs TypeScript sources as they are: `node --import ./scripts/typescript.mjs FILE.ts`. Types are
// stripped, not checked; `npm run lint` checks them.
import { readFile } from 'node:fs/promises'
import { register } from 'node:module'
import { fileURLToPath } from 'node:url'

const HOOKS = '?hooks'

// The hooks run in a thread of their own, which loads this file a second time.
if (!import.meta.url.endsWith(HOOKS)) register(`${import.meta.url}${HOOKS}`)

/** `./x.js` is `./x.ts` where there is such a file. */
export async function resolve(specifier, context, next) {
  if (/^\.{1,2}\//.test(specifier) && specifier.endsWith('.js')) {
    try {
      return await next(`${specifier.slice(0, -3)}.ts`, context)
    } catch {
      // It is JavaScript.
    }
  }
  return next(specifier, context)
}

export async function load(url, context, next) {
  if (!url.endsWith('.ts')) return next(url, context)
  const { transform } = await import('esbuild')
  const file = fileURLToPath(url)
  const { code } = await transform(await readFile(file, 'utf8'), {
    loader: 'ts',
    sourcefile: file,
    sourcemap: 'inline',
    target: 'es2023',
  })
  return { format: 'module', source: code, shortCircuit: true }
}
