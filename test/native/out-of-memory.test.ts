/** A process that may not have the memory of its threads gets an error, not an end. */
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import t from 'tap'
import { packageRoot } from '../../lib/addon/addon-file.js'

/** The scratch memory of 1024 threads is 2 GiB and more; Node itself needs less than one. */
const LIMIT_KIB = 2 * 1024 * 1024

t.test(
  'a device without memory for its threads',
  { skip: process.platform !== 'linux' },
  async t => {
    const script = `
    import { loadBinding } from ${JSON.stringify(join(packageRoot(), 'dist', 'addon', 'binding.js'))}
    const { Device } = loadBinding()
    for (const options of [{ threads: 1024 }, { threads: 1024, isa: 'scalar' }, { threads: 1, isa: 'scalar' }]) {
      try {
        console.log(new Device('cpu', options).info().threads)
      } catch ({ code, message }) {
        console.log(code, message)
      }
    }
  `
    const output = execFileSync(
      'sh',
      [
        '-c',
        `ulimit -v ${LIMIT_KIB} && exec "$0" --input-type=module -e "$1"`,
        process.execPath,
        script,
      ],
      { encoding: 'utf8' },
    )
    const refused = 'ERR_OUT_OF_MEMORY out of memory: scratch for 1024 threads\n'
    t.equal(output, `${refused}${refused}1\n`)
  },
)
