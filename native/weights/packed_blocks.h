// The blocks of an int8 or int4 weight that is stored as the CPU's panels, for devices with another
// layout: the inverse of cpu/pack.cc. A file of packed weights holds such panels (weights/panels.h,
// kPackedLayoutName).
#pragma once

#include "panels.h"
#include "quantise.h"

namespace moepp {

// Bytes of the panels of a group [rows, k].
static inline int64_t packed_group_bytes(DType dtype, Layout layout, int64_t rows, int64_t k) {
  return panel_count(layout, rows) * panel_bytes(dtype, k);
}

// The place of a row of a group [rows, k] in its panels: the inverse of panel_row.
struct PanelPlace {
  int64_t panel, lane;

  PanelPlace(Layout layout, int64_t rows, int64_t row)
      : panel(row / kPanelRows), lane(row % kPanelRows) {
    if (layout != Layout::kGateUp) return;
    const int64_t columns = rows / 2, column = row % columns;
    panel = column / kGateUpColumns;
    lane = column % kGateUpColumns + (row < columns ? 0 : kGateUpColumns);
  }
};

// Block b of lane `lane` of a panel.
static inline void read_panel_block(const unsigned char* panel, int64_t lane, int64_t b,
                                    Int8Block* block) {
  const unsigned char* at = panel + b * kInt8BlockBytes;
  for (int64_t k = 0; k < kQuantBlock; k++) {
    block->q[k] = static_cast<int8_t>(at[(k / 4 * kPanelRows + lane) * 4 + k % 4] - 128);
  }
  std::memcpy(&block->scale, at + kInt8Values + 2 * lane, 2);
}
static inline void read_panel_block(const unsigned char* panel, int64_t lane, int64_t b,
                                    Int4Block* block) {
  const unsigned char* at = panel + b * kInt4BlockBytes;
  uint16_t scale, multipliers;
  std::memcpy(&scale, at + kInt4Values + 2 * lane, 2);
  std::memcpy(&multipliers, at + kInt4Values + 2 * (kPanelRows + lane), 2);
  block->scale = scale & kInt4ScaleMask;
  for (int64_t k = 0; k < kQuantBlock; k++) {
    const int byte = at[(k / 8 * kPanelRows + lane) * 4 + k % 4],
              half = k % 8 < 4 ? byte & 15 : byte >> 4;
    const bool mirrored = (scale >> (k / kInt4Group) & 1) != 0;
    block->q[k] = static_cast<int8_t>(mirrored ? 7 - half : half - 8);
  }
  for (int64_t j = 0; j < kInt4Groups; j++) {
    const int multiplier = multipliers >> (4 * j) & 15;
    block->multiplier[j] = static_cast<int8_t>(scale >> j & 1 ? -multiplier : multiplier);
  }
}

// Block b of a row of the group [rows, k] whose panels begin at `panels`.
template <class Block>
void read_packed_block(const unsigned char* panels, DType dtype, Layout layout, int64_t rows,
                       int64_t k, int64_t row, int64_t b, Block* block) {
  const PanelPlace place(layout, rows, row);
  read_panel_block(panels + place.panel * panel_bytes(dtype, k), place.lane, b, block);
}

}  // namespace moepp
