// The kernels of seeded_bugs.h and seeded_blocks.h, without a bug. They are whole pipelines, on a
// GPU too, and in the machine code what they are meant to be.
// SASS sm_80,sm_90a tiled_gemm: HMMA LDSM LDGSTS !LDL !STL registers<=128 no-spills
// SASS sm_75 tiled_gemm: LDSM FFMA !HMMA !LDGSTS !LDL !STL no-spills
// SASS sm_90a piped_gemm: HGMMA UTMALDG UTMASTG !HMMA !LDL !STL no-spills
// SASS sm_90a blocks_gemm: QGMMA>=4 UTMALDG UBLKCP !HMMA !LDL !STL no-spills
// SASS * count_best: SHFL !LDL !STL no-spills
#include "seeded_blocks.h"

namespace moepp::simt_test {

MOEPP_TEST(simt_tiled_gemm) {
  for_each_schedule([] { EXPECT(run_tiled(tiled_gemm<Bug::kNone>, sizeof(TiledSmem)) == 0); });
}

MOEPP_TEST(simt_count_best) {
  for_each_schedule([] { EXPECT(run_count(count_best<Bug::kNone>) == 0); });
}

MOEPP_TEST(simt_piped_gemm) {
  if (!has_wgmma()) return;
  for_each_schedule([] { EXPECT(run_piped(piped_gemm<Bug::kNone>) == 0); });
}

MOEPP_TEST(simt_blocks_gemm) {
  if (!has_wgmma()) return;
  for_each_schedule([] { EXPECT(run_blocks(blocks_gemm<BlockBug::kNone>) == 0); });
}

}  // namespace moepp::simt_test
