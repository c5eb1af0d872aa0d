// Copies of tiles from global to shared memory by cp.async, swizzled so that fragments are read
// without bank conflicts.
#pragma once

#include "cuda/simt/simt.h"

namespace moepp::cuda {

// The place of unit `unit` (16 bytes) of a row of a tile, in units from the tile's start.
//   64-byte rows (32 bf16)    two rows cover all banks; eight rows at one unit, as ldmatrix reads
//                             them, must cover each bank once
//   128-byte rows (32 f32)    four rows at two units, as 16 lanes read float2s of a fragment
SIMT_DEVICE int swizzled_64(int row, int unit) {
  return row * 4 + (unit ^ (row / 2 % 4));
}
SIMT_DEVICE int swizzled_128(int row, int unit) {
  return row * 8 + (unit ^ (row % 4 * 2));
}

}  // namespace moepp::cuda
