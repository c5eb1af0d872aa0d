// A GEMM hands out its panels each exactly once, in ascending ranges, whatever the number of panels
// and threads.
#include <cstdint>

#include "test.h"

namespace moepp::test {

namespace {
#include "cpu/kernels/panel_ranges.inl.h"
}

static bool covers(const PanelRanges& ranges) {
  int64_t next = 0;
  for (int64_t i = 0; i < ranges.ranges(); i++) {
    int64_t first = -1, count = 0;
    ranges.range(i, &first, &count);
    if (first != next || count < 1 || count > ranges.most) return false;
    next = first + count;
  }
  return next == ranges.panels;
}

MOEPP_TEST(panel_ranges_hold_every_panel_once) {
  for (int64_t threads : {1, 2, 3, 5, 16, 64}) {
    for (int64_t panels = 1; panels <= 300; panels++) {
      const std::string label =
          std::to_string(panels) + " panels, " + std::to_string(threads) + " threads";
      for (int64_t bytes : {100, 2176, 8320, 1 << 20})
        EXPECT_MESSAGE(covers(streamed_ranges(panels, threads, bytes)), label);
      for (int64_t each : {1, 2, 7, 16, 64})
        EXPECT_MESSAGE(covers(even_ranges(panels, threads, each)), label);
      EXPECT_MESSAGE(covers({panels, threads, 2, 10}), label);
    }
  }
}

// Whole groups are handed out while as many groups with rows are left as there are threads.
MOEPP_TEST(panel_ranges_share_the_last_groups) {
  const int32_t offsets[] = {0, 2, 2, 3, 3, 7, 8, 8};  // groups 0, 2, 4 and 5 have rows
  const auto shared = [&](int64_t first, int64_t last, int64_t threads) {
    return first_shared_group(offsets, 7, first, last, threads);
  };
  EXPECT(shared(0, 8, 1) == 5);
  EXPECT(shared(0, 8, 2) == 4);
  EXPECT(shared(0, 8, 3) == 2);
  EXPECT(shared(0, 8, 4) == 0);
  EXPECT(shared(0, 8, 64) == 0);
  EXPECT(shared(0, 5, 1) == 4);  // a pass that ends within group 4
  EXPECT(shared(0, 3, 1) == 2);
  EXPECT(shared(2, 7, 2) == 2);  // one that begins behind group 0
  EXPECT(shared(2, 7, 3) == 0);
}

}  // namespace moepp::test
