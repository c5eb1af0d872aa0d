// Finds the part of the output that a block computes, on the device from the offsets, and stores
// finished sums.
#pragma once

#include <climits>

#include "cuda/kernels/grouped_gemm/gemm.h"

namespace moepp::cuda {

SIMT_DEVICE int first_row(const Gemm& g, int group) {
  return g.offsets != nullptr ? g.offsets[group] : g.group_rows * group;
}
SIMT_DEVICE int end_row(const Gemm& g, int group) {
  return g.offsets != nullptr ? g.offsets[group + 1] : first_row(g, group) + g.group_rows;
}
// The row of the output that row r of a group writes.
SIMT_DEVICE int out_row(const Gemm& g, int group, int r) {
  return r * g.row_step + group * g.group_step;
}
// The row of x that it reads.
SIMT_DEVICE int source_row(const Gemm& g, int group, int r) {
  return g.token_order != nullptr ? g.token_order[r] / g.picks_per_row : out_row(g, group, r);
}
// The same where the group is not known.
SIMT_DEVICE int source_row(const Gemm& g, int r) {
  return source_row(g, g.group_step == 0 ? 0 : r / g.group_rows, r);
}

// A tile of the output: the rows row .. end - 1 (perhaps more than the tile has) and the weight's
// stored rows from `column` on.
struct Tile {
  int group, row, end, column;
};

// Tiles of the rows from .. to - 1. They are numbered group by group, in a group with the rows
// running first: blocks that run together share a weight's tile.
template <int kRows, int kColumns>
struct TileWalk {
  int from = 0, to = INT_MAX;
  int group = 0;
  int64_t before = 0;  // tiles of the groups before it

  // Tile numbers must not decrease from call to call. False past the last one.
  SIMT_DEVICE bool find(const Gemm& g, int64_t number, Tile* tile) {
    const int across = (g.weight_rows + kColumns - 1) / kColumns;
    for (; group < g.groups; group++) {
      const int first = max(first_row(g, group), from), end = min(end_row(g, group), to),
                down = (max(end - first, 0) + kRows - 1) / kRows;
      const int64_t count = static_cast<int64_t>(down) * across;
      if (number < before + count) {
        const int within = static_cast<int>(number - before);
        *tile = {group, first + within % down * kRows, end, within / down * kColumns};
        return true;
      }
      before += count;
    }
    return false;
  }
};

// Host: no routing gives more tiles than this.
inline int64_t most_tiles(const Gemm& g, int tile_rows, int tile_columns) {
  const int64_t groups = g.groups < g.rows ? g.groups : g.rows;  // with rows
  const int64_t down = groups + (g.rows - groups) / tile_rows;
  return down * ((g.weight_rows + tile_columns - 1) / tile_columns);
}

// The groups with rows, numbered: group `number`, or -1. All 32 lanes; the same in all of them.
SIMT_DEVICE int occupied_group(const Gemm& g, int number) {
  if (g.offsets == nullptr) return number < g.groups && g.rows > 0 ? number : -1;
  for (int base = 0; base < g.groups; base += 32) {
    const int group = base + static_cast<int>(threadIdx.x % 32);
    unsigned occupied =
        __ballot_sync(simt::kFullMask, group < g.groups && g.offsets[group + 1] > g.offsets[group]);
    const int count = __popc(occupied);
    if (number < count) {
      for (; number > 0; number--) occupied &= occupied - 1;
      return base + __ffs(static_cast<int>(occupied)) - 1;
    }
    number -= count;
  }
  return -1;
}

// The stored row of gate or, + 8, up of an output column.
SIMT_DEVICE int swiglu_row(int column) {
  return column / 8 * 16 + column % 8;
}

// Column `column` of the output but for the activation.
SIMT_DEVICE float biased(const Gemm& g, int column, float sum) {
  const float value = g.scale * sum;
  return g.bias != nullptr && column < g.columns ? value + __ldg(g.bias + column) : value;
}
SIMT_DEVICE float finish(const Gemm& g, int column, float sum) {
  const float value = biased(g, column, sum);
  return g.activation == Activation::kTanh ? tanhf(value) : value;
}
SIMT_DEVICE float finish_swiglu(const Gemm& g, float gate, float up) {
  const float value = g.scale * gate;
  // 0 from a divisor of 2^126 on, where silu is less than that
  return __fdividef(value, 1.0f + expf(-value)) * (g.scale * up);
}

// Two neighbouring columns of a row of the output; the first is even.
SIMT_DEVICE void write_pair(const Gemm& g, int row, int column, float first, float second) {
  const int64_t at = static_cast<int64_t>(row) * g.columns + column;
  if (column + 1 < g.columns && g.columns % 2 == 0) {
    g.out.store(at, {first, second});
  } else {
    if (column < g.columns) g.out.store(at, {first});
    if (column + 1 < g.columns) g.out.store(at + 1, {second});
  }
}

}  // namespace moepp::cuda
