// NVIDIA does not publish the opcodes of its GPUs: each one here was found by compiling one
// instruction of PTX (Turing to Blackwell agree).

/**
 * The lower nine bits of an instruction's opcode; the three above them say where the operands come
 * from. Some names have several opcodes.
 */
export const opcodes = new Map([
  [0x03c, 'HMMA'],
  [0x037, 'IMMA'],
  [0x07a, 'QMMA'],
  [0x1f0, 'HGMMA'],
  [0x1f3, 'QGMMA'],
  [0x03b, 'LDSM'],
  [0x184, 'LDS'],
  [0x188, 'STS'],
  [0x183, 'LDL'],
  [0x187, 'STL'],
  [0x189, 'SHFL'],
  [0x023, 'FFMA'],
  [0x021, 'FADD'],
  [0x020, 'FMUL'],
  [0x108, 'MUFU'],
  [0x11d, 'BAR'],
  [0x02e, 'ACQBULK'], // griddepcontrol.wait
  [0x02d, 'PREEXIT'], // griddepcontrol.launch_dependents
  // Global and generic memory.
  [0x181, 'LDG'],
  [0x180, 'LD'],
  [0x1a4, 'LDGMC'], // multimem.ld_reduce
  [0x186, 'STG'],
  [0x185, 'ST'],
  [0x1a8, 'ATOMG'],
  [0x1a9, 'ATOMG'], // compare and swap
  [0x1a3, 'ATOMG'], // sums of floats
  [0x18a, 'ATOM'],
  [0x18b, 'ATOM'],
  [0x18e, 'RED'],
  [0x1a6, 'RED'],
  [0x1ae, 'LDGSTS'],
  [0x1b4, 'UTMALDG'],
  [0x1b5, 'UTMASTG'],
  [0x1b6, 'UTMAREDG'],
  [0x1ba, 'UBLKCP'],
  [0x1bb, 'UBLKRED'],
  // Branches.
  [0x147, 'BRA'],
  [0x144, 'CALL.REL'],
  [0x150, 'RET'],
  [0x14d, 'EXIT'],
  [0x145, 'BSSY'],
  [0x149, 'BRX'],
  [0x158, 'BRXU'],
  [0x143, 'CALL.ABS'],
])

/** Instructions of memory have opcodes in this range, and so have some others. */
export const isOfMemory = opcode => opcode >= 0x160 && opcode <= 0x1bf

/**
 * Those of them that touch no global memory. They access constants, parameters, shared and local
 * memory. Others exchange registers, order memory, or bring something into a cache.
 */
export const harmless = new Set([
  0x182, // constants and parameters
  0x1ac,
  0x183, // local memory
  0x187,
  0x184, // shared memory
  0x188,
  0x18c, // shared memory's atomics
  0x18d,
  0x1a7, // mbarriers
  0x1b0,
  0x1b2,
  0x189, // shuffle
  0x1a1, // match
  0x192, // fences
  0x1ab,
  0x1af, // cp.async.commit_group
  0x1b7, // cp.async.bulk.commit_group
  0x18f, // prefetch, and clearing L1 after a fence
  0x1b8, // prefetch of a tile
  0x1b9, // prefetch of a tensor map
  0x1bc, // cp.async.bulk.prefetch
])
