/**
 * Models on GPUs of several ranks: on a machine with two of them, or on emulated ones, which a NCCL
 * for tests joins (native/test/simt/nccl/).
 */

import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import t from 'tap'
import { BOOKS, MAIN } from '../cli/run-cli.js'
import { eachMpi, start } from '../parallel/mpirun.js'
import { goldenCase } from '../support/golden.js'
import { emulatedAddon, onGpu } from './gpu.js'

const { loadBinding } = await import('../../lib/addon/binding.js')

const TEXTS = join(import.meta.dirname, '../parallel/rank-texts.js')
const MODELS = [goldenCase('odd-sizes', 'moepp'), goldenCase('constant', 'qwen3_moe_plus_plus')]
const variables = onGpu ? {} : { MOEPP_BINDING: emulatedAddon, MOEPP_EMULATED_GPU: 'two' }
const skip = onGpu && loadBinding().cuda().devices < 2 && 'there are not two GPUs'

interface Results {
  readonly logits: readonly number[]
  readonly texts: readonly { readonly tokenIds: readonly number[] }[]
}

/** A prompt of few tokens takes the same kernels on one GPU, and texts may take others. */
const comparable = (all: readonly Results[]) =>
  all.map(({ logits, texts }) => ({ logits, texts: texts.map(({ tokenIds }) => tokenIds) }))

await eachMpi(mpi => {
  // The models are shared between the two MPIs: an emulated one takes half a minute.
  const models = mpi.name === 'MPICH' ? MODELS.slice(1) : MODELS.slice(0, 1)

  t.test(`${mpi.name}: the results of one GPU`, { skip }, async t => {
    const env = { ...process.env, ...variables, NODE_OPTIONS: '' }
    const alone = execFileSync(process.execPath, [TEXTS, 'alone-gpu', ...models], { env })
    const args = [TEXTS, 'nccl', ...models]
    const { code, stdout, stderr } = await start(mpi, 2, args, false, variables).ended
    t.equal(code, 0, stderr)
    t.same(comparable(JSON.parse(stdout)), comparable(JSON.parse(`${alone}`)))
  })

  t.test(`${mpi.name}: generate on GPUs`, { skip }, async t => {
    const model = ['--model', BOOKS, '--expert-parallel', '--device', 'cuda']
    const args = [MAIN, 'generate', ...model, '--seed', '1', '--max-new-tokens', '4', 'The old man']
    const { code, stdout, stderr } = await start(mpi, 2, args, false, variables).ended
    t.equal(code, 0, stderr)
    t.equal(stdout, ' who has been in\n')
  })

  t.test(`${mpi.name}: more ranks than GPUs`, { skip: onGpu }, async t => {
    const { code, stderr } = await start(mpi, 3, [TEXTS, 'nccl', models[0]!], false, variables)
      .ended
    // Of ranks that end together, MPICH's mpirun may return 0.
    if (mpi.name !== 'MPICH') t.not(code, 0)
    t.match(stderr, /needs a GPU for each rank; got 3 ranks on \S+, which has 2/)
  })
})
