// The description of a TMA copy, in both compilations.
#pragma once

#include <cstdint>

namespace simt {

// The order of a tile's rows in shared memory. Address bits 7 and up exchange the 16-byte units of
// a row, so that a column of units covers every bank. k128: unit ^= (address >> 7) & 7; k64: & 3;
// k32: & 1. PTX: tensor swizzling modes.
enum class Swizzle { kNone, k32, k64, k128 };

enum class Element { kU8, kBf16, kF32 };

// A matrix in global memory and the tile that one copy moves. Elements outside the matrix are read
// as 0 and not written.
struct TileMap {
  const void* data;  // aligned to 16
  Element element;
  uint64_t columns, rows;
  uint64_t pitch_bytes;            // from row to row, a multiple of 16
  uint32_t box_columns, box_rows;  // up to 256; a row of the box is a multiple of 16 bytes, at most
                                   // the swizzle's width
  Swizzle swizzle;
};

}  // namespace simt
