import t from 'tap'
import { MoeppError } from '../lib/errors.js'

t.test('a MoeppError carries its code, op and cause', async t => {
  const cause = new Error('disk')
  const error = new MoeppError('ERR_BAD_FILE', 'model.safetensors: truncated', {
    op: 'layers.0.moe',
    cause,
  })
  t.equal(error.name, 'MoeppError')
  t.equal(error.code, 'ERR_BAD_FILE')
  t.equal(error.op, 'layers.0.moe')
  t.equal(error.cause, cause)
  t.ok(error instanceof Error)
})

t.test('op and cause are absent unless given', async t => {
  const error = new MoeppError('ERR_CLOSED', 'model is closed')
  t.notOk('op' in error)
  t.notOk('cause' in error)
})
