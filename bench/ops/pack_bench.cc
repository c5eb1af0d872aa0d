// Packing a weight into panels, which is what loading a model costs beyond reading its files.
#include "bench.h"

#include "../../native/test/compare.h"
#include "cpu/pack.h"
#include "host/thread_pool.h"

namespace moepp::bench {

static void pack_all(const Buffer& source, const Buffer& target, DType from, DType to, int64_t rows,
                     int64_t k, Queue& queue) {
  static_cast<ThreadPool&>(queue).parallel_for(rows / kPanelRows, [&](int64_t panel, int) {
    PackRow lanes[kPanelRows];
    for (int64_t lane = 0; lane < kPanelRows; lane++) {
      lanes[lane] = {source.as<std::byte>() + (panel * kPanelRows + lane) * k * dtype_size(from),
                     from, 1};
    }
    cpu::pack_panel(target.as<std::byte>() + panel * panel_bytes(to, k), to, lanes, k);
  });
}

// The last panel, for rows that have the panel's dtype.
static std::string check(const Buffer& source, const Buffer& target, DType dtype, int64_t rows,
                         int64_t k) {
  const int64_t size = dtype_size(dtype);
  const std::byte* panel = target.as<std::byte>() + (rows / kPanelRows - 1) * panel_bytes(dtype, k);
  for (int64_t lane = 0; lane < kPanelRows; lane++) {
    const std::byte* row = source.as<std::byte>() + (rows - kPanelRows + lane) * k * size;
    for (int64_t at = 0; at < k; at++) {
      if (!test::same_bits(panel + panel_index(dtype, lane, at) * size, row + at * size,
                           static_cast<size_t>(size))) {
        return "element [" + std::to_string(lane) + ", " + std::to_string(at) +
               "] of the last panel";
      }
    }
  }
  return {};
}

MOEPP_BENCH(pack_panel) {
  if (!run.device().uses_mapped_weights()) return;
  constexpr int64_t kRows = 64 << 10, kColumns = 1536;
  const DType pairs[][2] = {{DType::kBf16, DType::kBf16},
                            {DType::kF32, DType::kF32},
                            {DType::kF32, DType::kBf16},
                            {DType::kBf16, DType::kF32},
                            {DType::kF16, DType::kBf16}};
  for (const auto& pair : pairs) {
    const DType from = pair[0], to = pair[1];
    const int64_t source_bytes = kRows * kColumns * dtype_size(from),
                  target_bytes = kRows * kColumns * dtype_size(to);
    const Buffer source(static_cast<size_t>(source_bytes)),
        target(static_cast<size_t>(target_bytes));
    for (int64_t i = 0; i < source_bytes / 2; i++)
      source.as<uint16_t>()[i] = static_cast<uint16_t>(i % 16381);
    run.row(
        {std::string("pack_panel 65536 x 1536 from ") + dtype_name(from),
         to,
         0,
         {static_cast<double>(source_bytes), static_cast<double>(target_bytes)}},
        [&] { return from == to ? check(source, target, to, kRows, kColumns) : std::string(); },
        [&](int64_t) {
          pack_all(source, target, from, to, kRows, kColumns, run.device().queue());
        });
  }
}

}  // namespace moepp::bench
